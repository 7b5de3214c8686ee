"""What of the classification and segmentation sets is there: found, missing, malformed, and where each is to be had.

python tools/check_data.py                       # all: lists, folders, one image of each class
python tools/check_data.py caltech101 --images   # every image listed is looked for
python tools/check_data.py voc_zss --images      # every label map is opened
python tools/check_data.py ade150 --names        # and what its numbers mean, with the set's other words for a class
python tools/check_data.py data/toy/crops        # a folder of one's own
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from subpt_dense.datasets import IMAGE_SETS, get_split, write_json
from subpt_dense.datasets.check_semantic import SEMANTIC_SETS, check_semantic
from subpt_dense.datasets.check_sets import FOUND, SetReport, check_set
from subpt_dense.datasets.semantic_names import synonyms

_STYLES = {"found": "green", "missing": "yellow", "malformed": "red"}
_PARTS = ("train", "val", "test")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, print, and say by the exit status whether all that was asked for is there."""
    known = [*IMAGE_SETS, *SEMANTIC_SETS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"{', '.join(known)}, or a folder; default: all")
    parser.add_argument("--root", default="data", help="what the sets' folders lie in (default: %(default)s)")
    parser.add_argument("--images", action="store_true", help="look for every image listed, not for one of each class")
    parser.add_argument("--names", action="store_true", help="list the classes of the segmentation sets as well")
    parser.add_argument("--json", metavar="FILE", help="write the findings there as well")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.sets if name not in known and not Path(name).is_dir()]
    semantic = ", ".join(SEMANTIC_SETS)
    if unknown:
        parser.exit(
            2,
            f"A set must be one of {', '.join(IMAGE_SETS)} (classification), {semantic} (segmentation), or an existing "
            f"folder. Got {', '.join(map(repr, unknown))}.\n",
        )
    others = [name for name in options.sets if name not in SEMANTIC_SETS]
    if options.names and others:
        parser.exit(2, f"`--names` must be of segmentation sets: {semantic}. Got {', '.join(map(repr, others))}.\n")
    console = Console(width=None if sys.stdout.isatty() else 160)
    reports = []
    for name in options.sets or known:
        check = check_semantic if name in SEMANTIC_SETS else check_set
        with _bar(name, options.images) as progress:
            reports.append(check(name, options.root, images=options.images, progress=progress))
    _show(console, reports)
    if options.names:
        for name in (report.name for report in reports if report.name in SEMANTIC_SETS):
            _show_names(console, name)
    if options.json:
        write_json(options.json, [report.to_dict() for report in reports], indent=1)
    return 0 if all(report.state == FOUND for report in reports) else 1


@contextmanager
def _bar(name: str, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's error stream; it leaves nothing behind."""
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _show(console: Console, reports: Sequence[SetReport]) -> None:
    table = Table(title="Data sets")
    for column in ("set", "state", "classes", *_PARTS):
        table.add_column(column, justify="left" if column in ("set", "state") else "right", no_wrap=True)
    for report in reports:
        state = f"[{_STYLES[report.state]}]{report.state}[/]" + (" (see below)" if report.remarks else "")
        classes = "" if report.classes is None else str(report.classes)
        table.add_row(report.name, state, classes, *(_count(report, part) for part in _PARTS))
    console.print(table)
    for report in reports:
        lines = [*report.problems, *(f"Note: {remark}" for remark in report.remarks)]
        if lines:
            console.print(f"{report.name}:", style="bold")
            for line in lines:
                console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
            if report.problems and report.source:
                console.print(f"  Get it: {report.source}", markup=False, highlight=False, soft_wrap=True)


def _show_names(console: Console, name: str) -> None:
    """A line a class: the number in the maps, the name, and the words that are not encoded."""
    split, words = get_split(name), synonyms(name)
    groups = {"seen": split.base, "unseen": split.novel}
    console.print(f"Names of {name}:", style="bold")
    for number, one in sorted(zip(split.ids, split.all, strict=True)):
        group = "" if split.transfer else f" ({next(key for key, names in groups.items() if one in names)})"
        also = f"; also: {', '.join(words[one])}" if one in words else ""
        line = f"  {number + SEMANTIC_SETS[name].first}: {one}{group}{also}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _count(report: SetReport, part: str) -> str:
    found, published = report.images.get(part), report.published.get(part)
    if found is None:
        return "" if published is None else f"- of {published:,}"
    return f"{found:,}" if published in (None, found) else f"{found:,} of {published:,}"


if __name__ == "__main__":
    sys.exit(main())

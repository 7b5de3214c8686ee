"""Where a prompt's training goes: ``python tools/analysis/gradient_flow.py coop=WORK_DIR subpt=WORK_DIR --out FOLDER``.

Reads ``trajectory.safetensors``, which subpt_dense.TrajectoryHook writes (the runs of tools/run_seeds.py have it), and
the config beside it. Writes ``gradient_flow.png`` and ``gradient_flow.json``.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.utils import import_modules_from_strings
from rich.console import Console
from rich.table import Table

from subpt_dense.datasets import write_json
from subpt_dense.evaluation import Trajectory
from subpt_dense.evaluation.gradient_flow import gradient_flow, plane
from subpt_dense.evaluation.gradient_flow_plot import plot_flow
from subpt_dense.evaluation.nearest_words import nearest_words
from subpt_dense.text import TextSpec, TextTower, get_tower, load_tower


def context_words(work_dir: Path, trajectory: Trajectory, words: Path | None, count: int) -> list[list[dict]] | None:
    """The words nearest to each token of the last epoch's context; None where no parameter is called ``context``.

    Args:
        work_dir: The run's, with its config.
        trajectory: Its trajectory.
        words: A text file: only those of its words that are one token are candidates. None: all that the tower knows.
        count: Words a token.
    """
    if trajectory.shapes[0][0] != "context":
        return None
    shape = trajectory.shapes[0][1]
    context = trajectory.parameters[-1][: torch.Size(shape).numel()].view(shape)
    tower = get_tower(load_tower(_text_spec(work_dir)), torch.device("cpu"))
    ids = _candidates(tower, words)
    names = [tower.tokenizer.decode([i]).strip() or f"<{i}>" for i in ids]
    return nearest_words(context, tower.token_embedding(torch.tensor(ids)), names, count)


def _text_spec(work_dir: Path) -> TextSpec:
    configs = sorted(work_dir.glob("*.py"))
    if len(configs) != 1:
        raise SystemExit(f"error: {work_dir} must hold the run's config, one .py file. Got {len(configs)}.")
    cfg = Config.fromfile(configs[0])
    import_modules_from_strings(**cfg.get("custom_imports", {"imports": []}))
    text = cfg.model.prompt.get("text") or (cfg.model.get("language") or {}).get("text")
    if text is None:
        raise SystemExit(f"error: {configs[0]} must name a CLIP as `model.language.text`. It names none.")
    return TextSpec(**text)


def _candidates(tower: TextTower, words: Path | None) -> list[int]:
    if words is None:
        return list(range(tower.token_embedding.num_embeddings - 2))  # the last two begin and end a text
    listed = (tower.token_ids(word) for word in words.read_text(encoding="utf-8").split())
    found = sorted({ids[0] for ids in listed if len(ids) == 1})
    if not found:
        raise ValueError(f"{words} must hold a word that is one token. Got none.")
    return found


def parse_run(text: str) -> tuple[str, Path]:
    """``name=work_dir``, or a work dir, which then names itself."""
    name, found, folder = text.partition("=")
    return (name, Path(folder)) if found else (Path(text).name, Path(text))


def main() -> None:
    """Parse, compute, draw, show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=parse_run, help="work dirs, or name=work_dir")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/gradient_flow"))
    parser.add_argument(
        "--early", type=int, help="early epochs; by default as long as the longest exploration, or a fifth"
    )
    parser.add_argument("--rank", type=int, default=5, help="directions of the early subspace")
    parser.add_argument(
        "--words",
        type=Path,
        help="text file: nearest words among its words only; the toy CLIP knows those of names_generic.txt",
    )
    parser.add_argument("--nearest", type=int, default=3, help="words shown a token")
    args = parser.parse_args()
    runs = dict(args.runs)
    try:
        found = {name: Trajectory.read(folder) for name, folder in runs.items()}
        explored = max(len(one.of_phase("explore")) for one in found.values())
        early = args.early or explored or max(2, len(next(iter(found.values()))) // 5)
        flows = {name: gradient_flow(one, early=early, rank=args.rank) for name, one in found.items()}
        together = plane(found)
        words = {name: context_words(runs[name], one, args.words, args.nearest) for name, one in found.items()}
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    write_json(args.out / "gradient_flow.json", {"runs": flows, "plane": together, "words": words})
    plot_flow(flows, together, args.out / "gradient_flow.png")
    console = Console()
    console.print(_summary(flows))
    for name, tokens in words.items():
        if tokens:
            console.print(_words(name, tokens))
    console.print(f"{args.out}: gradient_flow.png, gradient_flow.json", soft_wrap=True)


def _summary(flows: dict[str, Any]) -> Table:
    first = next(iter(flows.values()))
    table = Table(
        title=f"early: {first['early']} epochs, rank {first['rank']} (a random direction: {first['chance']:.3f})"
    )
    for column in ("", *flows):
        table.add_column(column, justify="right" if column else "left")
    rank, early = first["rank"], first["early"]
    rows = {
        f"variance of the early epochs in {rank} directions": lambda f: f["explained"]["early"][rank - 1],
        f"variance of all epochs in {rank} directions": lambda f: f["explained"]["whole"][rank - 1],
        "gradient inside, early epochs": lambda f: _mean(f["inside"][:early]),
        "gradient inside, last epochs": lambda f: _mean(f["inside"][-early:]),
        "displacement inside, at the end": lambda f: f["moved_inside"][-1],
        "largest angle, last window (degrees)": lambda f: (f["windows"][-1]["angles"] or [float("nan")])[-1],
    }
    for label, figure in rows.items():
        table.add_row(label, *(f"{figure(flow):.3f}" for flow in flows.values()))
    return table


def _mean(shares: list[float | None]) -> float:
    known = [share for share in shares if share is not None]
    return sum(known) / len(known) if known else float("nan")


def _words(name: str, tokens: list[list[dict]]) -> Table:
    table = Table(title=f"{name}: words nearest to each context token (Euclidean distance)")
    table.add_column("token", justify="right")
    table.add_column("words")
    for number, found in enumerate(tokens, start=1):
        table.add_row(str(number), ", ".join(f"{one['word']} ({one['distance']:.3f})" for one in found))
    return table


if __name__ == "__main__":
    main()

"""The whole toolkit in one run on the toy world: train, test, control, draw. ``tools/demo.py`` is its command line."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from rich.console import Console
from rich.table import Table

from subpt_dense.apis import load_config, test, train
from subpt_dense.datasets import get_split, write_json
from subpt_dense.evaluation.commit import code_commit
from subpt_dense.heads import complete_prompt
from subpt_dense.registry import MODELS
from subpt_dense.toyworld.build import build_world
from subpt_dense.toyworld.controls import KINDS, write_control_rows
from subpt_dense.toyworld.curves import plot_curves

#: What ``make demo`` trains, and what ``make demo-full`` adds.
HEADS = ("template", "subpt_nfl")
MORE_HEADS = ("coop", "subpt", "nfl", "subpt_nfl_heldout", "template_scratch")
_ROOT = Path("data/toy")
_DRAWN = 12
_DRAWS = 3  # of control rows: one class alone may be right by luck, which is worth up to 100 / 17


class Demo:
    """One demonstration run.

    Args:
        work_dir: Where everything goes; ``summary.json``, ``curves.png`` and ``drawn/`` are what to look at.
        seed: Seed of every training run.
        clip_seed: Which tiny CLIP.
        heads: Names of ``configs/ovd_toy_<head>.py``.
        configs: Folder of the configs.
        options: Overrides for every config, such as a shorter schedule.
    """

    def __init__(
        self,
        work_dir: str | Path = "work_dirs/demo",
        *,
        seed: int = 0,
        clip_seed: int = 0,
        heads: tuple[str, ...] = HEADS,
        configs: str | Path = "configs",
        options: dict[str, Any] | None = None,
    ) -> None:
        self.work_dir, self.configs = Path(work_dir), Path(configs)
        self.seed, self.heads = seed, heads
        self.clip = str(_ROOT / f"clip_seed{clip_seed}.pt")
        self.options = {"randomness.seed": seed, "model.language.text.pretrained": self.clip, **(options or {})}
        self.seconds = {"data": 0.0, "train": 0.0, "test": 0.0}

    def run(self) -> dict[str, Any]:
        """Everything, in order; returns what ``summary.json`` holds."""
        with self._timed("data"):
            build_world(_ROOT)
        scores: dict[str, Any] = {}
        for head in self.heads:
            with self._timed("train"):
                train(self._config(head))
            with self._timed("test"):
                scores[head] = _scores(test(self._config(head), self._checkpoint(head)))
        with self._timed("test"):
            controls = {f"{kind}_novel_ap50": self._control(kind) for kind in KINDS}
            self._draw()
        plot_curves({head: self.work_dir / head for head in self.heads}, self.work_dir / "curves.png")
        seconds = {"install": _install_seconds(), **{name: round(value, 1) for name, value in self.seconds.items()}}
        summary = {
            "heads": scores,
            "controls": controls,
            "seconds": seconds,
            "seed": self.seed,
            "commit": code_commit(),
        }
        write_json(self.work_dir / "summary.json", summary, indent=1)
        return summary

    def _config(self, head: str, **more: Any) -> Config:
        options = {**self.options, **more}
        if not head.endswith("scratch"):
            options["model.backbone.pretrained"] = self.clip
        return load_config(self.configs / f"ovd_toy_{head}.py", options=options, work_dir=str(self.work_dir / head))

    def _checkpoint(self, head: str) -> Path:
        return Path((self.work_dir / head / "last_checkpoint").read_text().strip())

    def _control(self, kind: str) -> float:
        """Novel AP50 of the first head's detector under wrong novel rows: the mean of several draws of them."""
        return round(sum(self._control_draw(kind, draw) for draw in range(_DRAWS)) / _DRAWS, 2)

    def _control_draw(self, kind: str, draw: int) -> float:
        cfg = self._config(self.heads[0])
        head = MODELS.build(complete_prompt(cfg.model.prompt, cfg.model.language))
        split = get_split(_ROOT / "split.json")
        head.vocabulary = split.all
        path = self.work_dir / "controls" / f"{kind}_{draw}.safetensors"
        rows = write_control_rows(head, len(split.novel), kind, path, seed=draw)
        cfg.model.prompt = {"type": "subpt_dense.RowsPrompt", "file": str(rows)}
        cfg.default_hooks.identity.allow_other = True
        result = test(cfg, self._checkpoint(self.heads[0]), out=path.with_suffix(".json"))
        return _scores(result)["novel_ap50"]

    def _draw(self) -> None:
        """The last head's detections on a few pictures."""
        cfg = self._config(self.heads[-1], **{"test_dataloader.dataset.indices": _DRAWN})
        test(cfg, self._checkpoint(self.heads[-1]), out=self.work_dir / "drawn.json", show_dir=self.work_dir / "drawn")

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.time()
        yield
        self.seconds[name] += time.time() - start


def print_summary(summary: dict[str, Any], work_dir: str | Path) -> None:
    """The table of ``summary.json``, on the console."""
    table = Table(title=f"AP50, 48 base / 17 novel classes (seed {summary['seed']}, {summary['commit']})")
    for column in ("prompt head", "base", "novel", "all"):
        table.add_column(column, justify="left" if column == "prompt head" else "right")
    for head, scores in summary["heads"].items():
        table.add_row(head, *(f"{scores[f'{group}_ap50']:.1f}" for group in ("base", "novel", "all")))
    table.add_section()
    for kind in KINDS:
        table.add_row(
            f"{next(iter(summary['heads']))}, novel rows {kind}",
            "",
            f"{summary['controls'][f'{kind}_novel_ap50']:.1f}",
            "",
        )
    console = Console()
    console.print(table)
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary["seconds"].items() if value is not None)
    console.print(f"{seconds}. Look at {Path(work_dir)}: drawn/ (detections), curves.png, summary.json.")


def _scores(result: dict[str, Any]) -> dict[str, float]:
    groups = result["tables"][0]["groups"]
    return {f"{group}_ap50": round(groups[group]["ap50"], 2) for group in ("base", "novel", "all")}


def _install_seconds() -> float | None:
    """What ``make`` recorded, if it made the environment."""
    stamp = Path(".venv/.installed")
    try:
        return float(stamp.read_text())
    except (OSError, ValueError):
        return None

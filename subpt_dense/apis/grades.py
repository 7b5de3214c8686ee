"""One prompt for each IoU grade of regions: as many runs of one config, and the list that a detector reads."""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.logging import print_log

from subpt_dense.apis.config import load_config
from subpt_dense.apis.own_globals import own_globals
from subpt_dense.apis.run import train
from subpt_dense.apis.work_dir import fingerprints
from subpt_dense.datasets import file_sha256, write_json
from subpt_dense.prompts import ListedPrompt, write_prompt_list

#: DetPro's (arXiv 2203.14940). The last one holds the annotated boxes themselves, whose IoU is 1.
GRADES = ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.1))
PROMPT_LIST = "prompts.json"
_DONE = "grade.json"

Grade = tuple[float, float]


def train_grades(
    config: str | Path,
    *,
    work_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    grades: Sequence[Grade] = GRADES,
    launcher: str = "none",
) -> Path:
    """Train a config once for each grade, on the regions of that grade and the background.

    Each run is an ordinary one with a folder of its own, ``<work_dir>/iou_50_60``: a head, its hooks, checkpoints and
    prompt file know nothing of grades. A run that is finished is not done again, one that was stopped starts anew.

    Args:
        config: Trains on :class:`subpt_dense.classification.RegionSet`, whose ``grade`` is set here.
        work_dir: Where everything goes; by default ``work_dirs/<name of the config file>``.
        options: Overrides, ``{"randomness.seed": 2}``.
        grades: IoUs ``(low, high)``, in rising order.
        launcher: As for :func:`subpt_dense.apis.load_config`.

    Returns:
        ``<work_dir>/prompts.json``, written at the end: ``files`` of :class:`subpt_dense.prompts.AveragedPrompt`.

    Raises:
        ValueError: If the config trains on no ``RegionSet``, learns no prompt, or the grades are not in rising order.
        FileNotFoundError, FileExistsError: As :func:`subpt_dense.apis.train`.
    """
    _check_grades(grades)
    prompts: list[ListedPrompt] = []
    root = Path(work_dir or Path("work_dirs") / Path(config).stem)
    for grade in grades:
        folder = root / grade_name(grade)
        changes = copy.deepcopy(dict(options or {}))  # mmengine takes `_delete_` out of what it is given
        cfg = load_config(config, options=changes, work_dir=str(folder), launcher=launcher, pretty=False)
        for dataset in _region_sets(cfg, Path(config).name):
            dataset["grade"] = tuple(grade)
        parts = fingerprints(cfg)
        prompts.append(ListedPrompt(folder / "prompt.safetensors", grade))
        if _finished(folder, parts):
            print_log(f"{folder}: finished, not done again", "current")
            continue
        (folder / _DONE).unlink(missing_ok=True)
        with own_globals():
            train(cfg)
        if not is_main_process():
            continue
        if not prompts[-1].file.is_file():
            raise ValueError(
                f"A config to train in grades must leave a prompt file. {Path(config).name} left none in {folder}: its "
                "head learns nothing, or `default_hooks.prompt_file` is gone or renames it."
            )
        write_json(folder / _DONE, {"parts": parts, "prompt_sha256": file_sha256(prompts[-1].file)})
    if is_main_process():
        write_prompt_list(root / PROMPT_LIST, prompts)
    return root / PROMPT_LIST


def grade_name(grade: Grade) -> str:
    """What a grade's folder is called: ``iou_50_60``."""
    return f"iou_{round(100 * grade[0])}_{round(100 * grade[1])}"


def _check_grades(grades: Sequence[Grade]) -> None:
    edges = [edge for grade in grades for edge in grade]
    if not grades or any(len(grade) != 2 or not 0 < grade[0] < grade[1] for grade in grades) or edges != sorted(edges):
        raise ValueError(
            f"`grades` must be IoUs (low, high) in rising order, such as {GRADES}. Got {tuple(map(tuple, grades))}."
        )
    if len({grade_name(grade) for grade in grades}) < len(grades):
        raise ValueError(f"`grades` must differ by 0.01 or more. Got {tuple(map(tuple, grades))}.")


def _region_sets(cfg: Config, name: str) -> list[Any]:
    """Every ``RegionSet`` config that is trained on."""
    found = list(_walk(cfg.get("train_dataloader")))
    if not found:
        raise ValueError(
            f"A config to train in grades must train on `subpt_dense.RegionSet`. {name} does not: take one such as "
            "configs/cls_toy_regions_subpt_nfl.py."
        )
    return found


def _walk(node: Any) -> Iterator[Any]:
    if isinstance(node, Mapping):
        if str(node.get("type", "")).split(".")[-1] == "RegionSet":
            yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for inner in node:
            yield from _walk(inner)


def _finished(folder: Path, parts: Mapping[str, str]) -> bool:
    """Whether the folder holds the prompt of a whole run of this very config."""
    record, prompt = folder / _DONE, folder / "prompt.safetensors"
    if not record.is_file() or not prompt.is_file():
        return False
    done = json.loads(record.read_text(encoding="utf-8"))
    return done["parts"] == dict(parts) and done["prompt_sha256"] == file_sha256(prompt)

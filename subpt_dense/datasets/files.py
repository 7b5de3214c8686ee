"""Files on disk: a check that a config's data is there, atomic JSON, content hashes."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from subpt_dense.datasets.set_paths import named_sets, set_paths, where_to_get
from subpt_dense.datasets.splits import is_built_in

_STAGES = ("train", "val", "test")


def require_files(cfg: Mapping[str, Any], stages: Sequence[str] = _STAGES) -> None:
    """Check, before anything is built, that every annotation file and image folder a config names exists.

    Walks ``{stage}_dataloader`` (data sets nested in wrappers included), the ``ann_file`` of ``{stage}_evaluator``, and
    the classification sets whose names the model's anchors ask for. Paths on remote back ends (``s3://...``) are left
    to the back end.

    Args:
        cfg: An mmengine ``Config`` or a mapping.
        stages: Which of ``"train"``, ``"val"`` and ``"test"`` are going to run.

    Raises:
        ValueError: If a stage is another.
        FileNotFoundError: Names *all* that is missing, one a line, where each classification set is to be had, then
            the config's own top-level ``data_help``.
    """
    unknown = [stage for stage in stages if stage not in _STAGES]
    if unknown:
        raise ValueError(
            f"`stages` must be among {', '.join(map(repr, _STAGES))}. Got {', '.join(map(repr, unknown))}."
        )
    missing: dict[str, str] = {}
    sources: dict[str, None] = {}
    for path, kind, key, source in _all_paths(cfg, stages):
        problem = _problem(path, kind)
        if problem:
            missing.setdefault(path, f"  {path} ({problem}; `{key}`)")
            sources |= {source: None} if source else {}
    if missing:
        lines = ["This config needs data that is not here:", *missing.values(), *sources]
        text = cfg.get("data_help") or "data/README.md says where each data set is to be had and how it is laid out."
        raise FileNotFoundError("\n".join([*lines, str(text)]))


def write_json(path: "str | Path", content: Any, indent: int | None = None) -> None:
    """Write JSON so that ``path`` never holds half a file: into the same folder (made if missing), then renamed.

    Raises:
        TypeError, ValueError: If the content cannot be written as standard JSON (NaN included); ``path`` is left as it
        was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=indent, allow_nan=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def file_sha256(path: "str | Path") -> str:
    """SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _all_paths(cfg: Mapping[str, Any], stages: Sequence[str]) -> Iterator[tuple[str, str, str, str | None]]:
    """(path, "file" or "folder", key in the config, where it is to be had) of all that a run reads."""
    for stage in stages:
        for found in _stage_paths(cfg, stage):
            yield *found, None
    nodes = [(f"{stage}_dataloader", cfg.get(f"{stage}_dataloader")) for stage in stages]
    for where, node in [*nodes, ("model", cfg.get("model"))]:
        for spec, key in named_sets(node, where):
            for found in set_paths(spec, key):
                yield *found, where_to_get(spec)


def _stage_paths(cfg: Mapping[str, Any], stage: str) -> Iterator[tuple[str, str, str]]:
    """(path, "file" or "folder", key in the config) of all that one stage reads."""
    loader = cfg.get(f"{stage}_dataloader")
    for i, one in enumerate(loader if isinstance(loader, Sequence) else [loader]):
        if isinstance(one, Mapping):
            where = f"{stage}_dataloader[{i}]" if isinstance(loader, Sequence) else f"{stage}_dataloader"
            yield from _dataset_paths(one.get("dataset"), f"{where}.dataset")
    yield from _evaluator_paths(cfg.get(f"{stage}_evaluator"), f"{stage}_evaluator")


def _dataset_paths(dataset: Any, key: str) -> Iterator[tuple[str, str, str]]:
    if not isinstance(dataset, Mapping):
        return
    yield from _dataset_paths(dataset.get("dataset"), f"{key}.dataset")  # RepeatDataset, ClassBalancedDataset, ...
    for i, inner in enumerate(dataset.get("datasets") or ()):  # ConcatDataset
        yield from _dataset_paths(inner, f"{key}.datasets[{i}]")
    root = dataset.get("data_root") or ""
    if dataset.get("ann_file"):
        yield _join(root, dataset["ann_file"]), "file", f"{key}.ann_file"
    for name, folder in (dataset.get("data_prefix") or {}).items():
        if isinstance(folder, str) and _join(root, folder):
            yield _join(root, folder), "folder", f"{key}.data_prefix.{name}"
    if isinstance(dataset.get("labels"), str):
        yield dataset["labels"], "file", f"{key}.labels"
    split = dataset.get("split")
    if isinstance(split, (str, Path)) and not is_built_in(split) and Path(split).suffix == ".json":
        yield str(split), "file", f"{key}.split"


def _evaluator_paths(evaluator: Any, key: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(evaluator, Mapping):
        if evaluator.get("ann_file"):
            yield str(evaluator["ann_file"]), "file", f"{key}.ann_file"
        yield from _evaluator_paths(evaluator.get("metrics"), f"{key}.metrics")
    elif isinstance(evaluator, Sequence) and not isinstance(evaluator, str):
        for i, one in enumerate(evaluator):
            yield from _evaluator_paths(one, f"{key}[{i}]")


def _join(root: str, path: Any) -> str:
    return str(path) if "://" in str(path) else os.path.join(root, str(path))


def _problem(path: str, kind: str) -> str | None:
    if "://" in path:
        return None
    if kind == "file":
        return None if os.path.isfile(path) else "no such file"
    if not os.path.isdir(path):
        return "no such folder"
    with os.scandir(path) as entries:
        return None if next(entries, None) else "an empty folder"

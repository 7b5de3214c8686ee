"""Base-to-novel: the first half of the labels is trained on, the second half is novel (CoCoOp, arXiv 2203.05557)."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from subpt_dense.datasets.image_list import read_names, set_name
from subpt_dense.datasets.splits import ClassSplit, get_split

_KEYS = {"set", "data_root", "folders", "split"}


def base_to_novel(
    names: Sequence[str], name: str, split: "str | Path | ClassSplit | Mapping | None" = None
) -> ClassSplit:
    """Who is base: the first ceil(C / 2) of the C names, unless a split says otherwise (arXiv 2203.05557, 4.1).

    Args:
        names: In label order.
        name: What the set is called; the split is ``"<name>-base2novel"``.
        split: What :func:`~subpt_dense.datasets.get_split` takes. Names in neither group are left out.

    Raises:
        ValueError: If there are fewer than two names, or ``split`` has one that the set does not have.
    """
    if split is None:
        half = math.ceil(len(names) / 2)
        return ClassSplit(f"{name}-base2novel", tuple(names[:half]), tuple(names[half:]))
    chosen = get_split(split)
    absent = [one for one in chosen.all if one not in set(names)]
    if absent:
        spare = [one for one in names if one not in set(chosen.all)]
        raise ValueError(
            f"Split {chosen.name!r} must hold class names of {name} only. Got {_some(absent)}, which it does not have; "
            f"those of its {len(names)} names that the split does not have: {_some(spare)}."
        )
    return chosen


def class_split_of(spec: Mapping[str, Any]) -> ClassSplit:
    """The split of a set on disk.

    Args:
        spec: ``dict(set="caltech101", data_root="data")``, with ``folders`` for ``set="folder"``, and ``split`` as in
            :func:`base_to_novel`.

    Raises:
        ValueError: If a key is another, or the set's list is malformed.
        FileNotFoundError: If the set's list does not exist.
    """
    unknown = sorted(set(spec) - _KEYS)
    if unknown:
        raise ValueError(f"A split given by its `set` may hold {', '.join(sorted(_KEYS))}. Got {', '.join(unknown)}.")
    data_root = spec.get("data_root", "data")
    names = read_names(spec["set"], data_root, spec.get("folders"))
    return base_to_novel(names, set_name(spec["set"], data_root), spec.get("split"))


def _some(names: Sequence[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(map(repr, names[:limit])) + more if names else "none"

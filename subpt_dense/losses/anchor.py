"""Text anchors: hold learned features of some names near the hand-crafted prompts' features (J names, D embedding)."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from subpt_dense.datasets import ClassSplit, resolve_names
from subpt_dense.datasets.image_list import set_name
from subpt_dense.registry import MODELS
from subpt_dense.text import TextTower, encode_templates, get_templates

TRAINED = "trained"
KINDS = ("generic", "heldout", TRAINED)
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": lambda features, targets: 1 - (features * targets).sum(-1).mean(),
    "l1": lambda features, targets: (features - targets).abs().mean(),
}


@MODELS.register_module()
class TextAnchor(nn.Module):
    """Auxiliary loss ``weight * mean_j distance(w_j, w*_j)`` over a set of names.

    ``w_j`` is the learned prompt's feature of a name, ``w*_j`` the frozen one: the mean of its templates' features. One
    class covers NFL (arXiv 2211.02219: extra names, weight 1, 80 templates), KgCoOp (arXiv 2303.13283: the trained
    names, weight 8, one template) and PromptSRC's text term (arXiv 2307.06948: the trained names, metric ``l1``).

    Args:
        names: The string ``"trained"`` for the vocabulary in training, else anything ``datasets.resolve_names`` takes:
            a list, the path of a text file, ``dict(vocabulary="imagenet", exclude="coco_ovd")``,
            ``dict(split="coco_ovd", group="novel")``.
        templates: Name of a template list, or the templates; take ones that the CLIP at hand was trained for.
        weight: λ, >= 0. With 0 the names are not even encoded.
        metric: ``"cosine"``, 1 - cos, or ``"l1"``, the mean absolute difference.
        name: The loss is called ``"loss_" + name``.
        kind: What the names say about the classes of the evaluation. ``"generic"``: nothing. ``"heldout"``: they are
            its novel names, and results must say so. ``"trained"``: they are the trained ones. Derived from ``names``
            when ``None``; a list or file counts as generic.

    Raises:
        ValueError: If an argument is out of range, or ``kind`` contradicts ``names``.
    """

    def __init__(
        self,
        names: Sequence[str] | Mapping[str, Any] | str,
        templates: str | Sequence[str],
        weight: float = 1.0,
        metric: str = "cosine",
        name: str = "nfl",
        kind: str | None = None,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"`weight` of TextAnchor {name!r} must be >= 0. Got {weight}.")
        if metric not in METRICS:
            raise ValueError(f"`metric` of TextAnchor {name!r} must be one of {', '.join(METRICS)}. Got {metric!r}.")
        if not name.isidentifier():
            raise ValueError(f"`name` of TextAnchor must be an identifier: the loss is 'loss_' + name. Got {name!r}.")
        self.name = name
        self.weight = weight
        self.metric = metric
        self.kind = _check_kind(names, kind, name)
        self.templates = get_templates(templates)
        self._templates_name = templates if isinstance(templates, str) else f"{len(self.templates)} listed"
        self.names: tuple[str, ...] | None = None if names == TRAINED else resolve_names(names)
        excluded = names.get("exclude") if isinstance(names, Mapping) else None
        self._excluded = None if excluded is None else _short(excluded)

    def names_for(self, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
        """The J names of this anchor while ``vocabulary`` is trained."""
        return vocabulary if self.names is None else self.names

    def targets(self, tower: TextTower, vocabulary: tuple[str, ...] = ()) -> Tensor:
        """The frozen features ``[J, D]``, unit, float32, without graph; encoded at every call."""
        return encode_templates(tower, self.names_for(vocabulary), self.templates)

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """The weighted loss, a float32 scalar.

        Args:
            features: Unit features ``[J, D]`` of the learned prompt, with graph.
            targets: Unit features ``[J, D]`` of :meth:`targets`, in the same order.

        Raises:
            ValueError: If the shapes differ.
        """
        if features.shape != targets.shape:
            raise ValueError(
                f"`features` of TextAnchor {self.name!r} must have the targets' shape {list(targets.shape)}. "
                f"Got {list(features.shape)}."
            )
        return self.weight * METRICS[self.metric](features.float(), targets.float())

    def summary(self) -> dict[str, Any]:
        """Plain facts for checkpoints and results; trained names change with the vocabulary and are not counted."""
        facts: dict[str, Any] = {"name": self.name, "kind": self.kind, "weight": self.weight, "metric": self.metric}
        facts["templates"] = self._templates_name
        if self.names is not None:
            digest = hashlib.sha256(json.dumps(self.names).encode()).hexdigest()
            facts |= {"num_names": len(self.names), "names_sha256": digest, "excluded": self._excluded}
        return facts

    def extra_repr(self) -> str:
        """For ``print(model)``."""
        return ", ".join(f"{k}={v!r}" for k, v in self.summary().items() if k != "names_sha256")


def _check_kind(names: Sequence[str] | Mapping[str, Any] | str, kind: str | None, owner: str) -> str:
    """The label of a name specification; it must not claim less knowledge than the names hold."""
    if names == TRAINED:
        allowed: tuple[str, ...] = (TRAINED,)
    elif isinstance(names, Mapping) and "split" in names:
        allowed = ("heldout",) if names.get("group") != "base" else (TRAINED, "heldout")
    else:
        allowed = ("generic", "heldout")
    if kind is None:
        return allowed[0]
    if kind not in allowed:
        choice = " or ".join(map(repr, allowed))
        raise ValueError(f"`kind` of TextAnchor {owner!r} must be {choice} for the `names` it was given. Got {kind!r}.")
    return kind


def _short(listed: Any) -> str:
    """What a result says about `exclude`: a split's name or file, a set, or how many names were listed."""
    if isinstance(listed, ClassSplit):
        return listed.name
    if isinstance(listed, Mapping):
        return str(listed["name"] if "name" in listed else set_name(listed["set"], listed.get("data_root", "data")))
    return os.path.basename(listed) if isinstance(listed, (str, os.PathLike)) else f"{len(listed)} listed"

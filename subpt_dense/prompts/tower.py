"""What prompt heads on a frozen text tower share."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from subpt_dense.prompts.base import PromptHead
from subpt_dense.text import TextSpec, TextTower, clean_name, get_tower, load_tower


class TowerPrompt(PromptHead):
    """A prompt head on a frozen text tower, which it knows by key only.

    The tower lives in a process-wide cache: it is no submodule, so that a host's ``init_weights``, ``.half()``, EMA
    copies, checkpoints and pickles never touch it. The vocabulary is set by the subclass, once its own attributes
    exist.

    Args:
        text: ``dict(model=..., pretrained=..., precision="fp32")``, see :class:`subpt_dense.text.TextSpec`.

    Raises:
        ValueError: If ``text`` lacks a key, or has one too many.
    """

    def __init__(self, text: dict | TextSpec) -> None:
        super().__init__()
        if not isinstance(text, TextSpec):
            try:
                text = TextSpec(**text)
            except TypeError as error:
                raise ValueError(
                    f"`text` of {type(self).__name__} must be dict(model=..., pretrained=..., precision='fp32'). "
                    f"Got keys {sorted(text) if isinstance(text, dict) else text!r}."
                ) from error
        self.key = load_tower(text)

    def tower(self, device: torch.device) -> TextTower:
        """The frozen tower on ``device``; ordinary tensors, even if first asked for inside ``torch.inference_mode``."""
        with torch.inference_mode(False):
            return get_tower(self.key, device)

    @property
    def embed_dim(self) -> int:
        """D, the length of a row."""
        return self.tower(torch.device("cpu")).embed_dim

    def _named(self) -> tuple[str, ...]:
        """The vocabulary, or an error while there is none."""
        if not self.vocabulary:
            raise RuntimeError(f"`vocabulary` of {type(self).__name__} is not set: assign the class names first.")
        return self.vocabulary

    def identity(self) -> dict[str, Any]:
        """Type, backbone, weights (tag or file name) with the hash of the text weights, precision."""
        return {
            "type": type(self).__name__,
            "backbone": self.key.spec.model,
            "weights": os.path.basename(self.key.spec.pretrained),
            "weights_hash": self.key.weights_hash,
            "precision": self.key.spec.precision,
        }


@contextmanager
def frozen_maths() -> Iterator[None]:
    """No graph, and ordinary tensors even inside ``torch.inference_mode``: what is kept here may meet a graph later."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def check_templates(tower: TextTower, names: Sequence[str], templates: Sequence[str]) -> None:
    """Refuse names that do not fit into the longest template, without encoding anything.

    Raises:
        ValueError: If a text does not fit into what the tower reads.
    """
    longest = max(templates, key=lambda template: len(tower.token_ids(template)))
    tower.tokenize([longest.replace("{}", clean_name(name)) for name in names])

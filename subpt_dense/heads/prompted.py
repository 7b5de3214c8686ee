"""The mixin that gives a host model its one prompt head."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast

from torch import Tensor, nn

from subpt_dense.heads.language import complete_prompt
from subpt_dense.prompts import PromptHead
from subpt_dense.registry import MODELS


class TakesRows(Protocol):
    """A module that classifies with rows handed to it."""

    def set_rows(self, rows: Tensor | None) -> None:
        """Use these rows ``[K, D]`` from now on; ``None`` takes them away."""


class PromptedModel:
    """A host model with one prompt head, whose rows every classifier in it shares.

    Put it before the host's class (``class Detector(PromptedModel, TwoStageDetector)``) and implement
    :meth:`_set_num_classes`. Each training step: :meth:`hand_out_rows`, the host's own loss, then :meth:`prompt_losses`
    added to the loss dict.

    Args:
        prompt: Config of a prompt head, or the head.
        language: What the task fills into that config, see :func:`subpt_dense.heads.complete_prompt`.
        *args: For the host.
        **kwargs: For the host.

    Raises:
        TypeError: If ``prompt`` is not a prompt head.
    """

    prompt: PromptHead

    def __init__(self, *args: Any, prompt: dict | PromptHead, language: dict | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        head = MODELS.build(complete_prompt(prompt, language)) if isinstance(prompt, dict) else prompt
        if not isinstance(head, PromptHead):
            owner, got = type(self).__name__, type(head).__name__
            raise TypeError(f"`prompt` of {owner} must be a PromptHead or its config. Got {got}.")
        self.prompt = head

    def set_vocabulary(self, names: Sequence[str]) -> None:
        """Classify these names from now on: the head's vocabulary and the class counts follow, rows of old names go.

        Args:
            names: Class names in label order.

        Raises:
            ValueError: If a name is empty, repeated, or refused by the head. The model is then unchanged.
        """
        self.prompt.vocabulary = names
        self._set_num_classes(len(self.prompt.vocabulary))
        for module in self._row_takers():
            module.set_rows(None)

    def _set_num_classes(self, num_classes: int) -> None:
        """Set the host's own class counts. Every host implements it."""
        raise NotImplementedError(f"{type(self).__name__} must implement `_set_num_classes(num_classes)`.")

    def _row_takers(self) -> Iterator[TakesRows]:
        modules = (m for m in cast(nn.Module, self).modules() if m is not self)
        # Not isinstance: with a Protocol that costs every step more than the rest of handing out.
        return (cast(TakesRows, m) for m in modules if callable(getattr(type(m), "set_rows", None)))

    def hand_out_rows(self, image_features: Tensor | None = None) -> Tensor:
        """Encode the vocabulary once and hand the rows to every module that takes them.

        Args:
            image_features: Unit features ``[B, D]``, for a head whose rows depend on the image; others ignore them.

        Returns:
            The unit rows ``[K, D]`` float32 (``[B, K, D]`` of a conditional head); in training they carry the graph to
            the context.

        Raises:
            RuntimeError: If no module takes rows, or the head's rows depend on the image and this model has none.
        """
        takers = list(self._row_takers())
        if not takers:
            raise RuntimeError(
                f"Nothing adapted: no module of {type(self).__name__} takes rows, and the prompt would have no effect. "
                "Build its classifier as `subpt_dense.TextClassifier`, or give it `set_rows(rows)`."
            )
        if not self.prompt.conditional:
            rows = self.prompt()
        elif image_features is not None and all(getattr(taker, "takes_conditional", False) for taker in takers):
            rows = self.prompt(image_features)
        else:
            raise RuntimeError(
                f"{type(self.prompt).__name__} gives rows per image [B, K, D], which {type(self).__name__} cannot hand "
                "out. Use a head whose `conditional` is False."
            )
        for module in takers:
            module.set_rows(rows)
        return rows

    def prompt_losses(self) -> dict[str, Tensor]:
        """The head's auxiliary losses for the rows last handed out; empty when it has none."""
        return self.prompt.auxiliary_losses()

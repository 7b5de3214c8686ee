"""The contract every prompt learner fulfils: class names in, unit text rows out (K classes, D embedding)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from subpt_dense.text import check_names


class PromptHead(nn.Module, ABC):
    """Turns class names into unit text-embedding rows.

    One head serves one model: the model calls :meth:`forward` once per step, hands the rows to whatever classifies, and
    adds :meth:`auxiliary_losses` to its loss dict. The frozen text tower is never a submodule.

    Args:
        vocabulary: Class names in label order. May be empty until :attr:`vocabulary` is set.

    Raises:
        ValueError: If a name is empty, not a string or repeated.
    """

    #: True when the rows depend on the image; :meth:`forward` then returns ``[B, K, D]``.
    conditional: bool = False

    def __init__(self, vocabulary: Sequence[str] = ()) -> None:
        super().__init__()
        self._vocabulary: tuple[str, ...] = ()
        self._accepted: set[tuple[str, ...]] = set()
        if vocabulary:
            self.vocabulary = vocabulary

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Class names in label order; assigning validates them and drops every cached row."""
        return self._vocabulary

    @vocabulary.setter
    def vocabulary(self, names: Sequence[str]) -> None:
        checked = check_names(names, owner=type(self).__name__)
        if checked != self._vocabulary:
            if checked not in self._accepted:
                self._check_vocabulary(checked)
                self._accepted.add(checked)  # training and validation take turns, every time with the same names
            self._vocabulary = checked
            self._drop_cache()

    def _check_vocabulary(self, names: tuple[str, ...]) -> None:
        """Hook for heads that can refuse names (too long, not in a file)."""

    def _drop_cache(self) -> None:
        """Hook for heads that keep computed rows."""

    @abstractmethod
    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Unit rows ``[K, D]`` float32 with gradient to the context only (``[B, K, D]`` where :attr:`conditional`)."""

    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        """What is learned, by name, and nothing else."""
        return dict(self.named_parameters())

    def check_evaluated(self, names: Sequence[str], novel: Sequence[str] = ()) -> None:
        """Raise ValueError if the head knows something of names it claims not to know.

        Args:
            names: Every name of the evaluation, base and novel.
            novel: Those among them whose results are called novel.
        """

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """Scalar losses of the rows last computed by :meth:`forward`; empty when there are none."""
        return {}

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain facts that tell this head from another: type, backbone, weights, lengths. Stored in checkpoints."""

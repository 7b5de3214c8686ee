"""What every classifier over handed-in rows shares: taking them, refusing the wrong ones (K classes, D embedding)."""

import torch
from mmengine.model import BaseModule
from torch import Tensor

from subpt_dense.prompts.held import Held


class RowsTaker(BaseModule):
    """Classifies with rows that the model's one prompt head hands in (:meth:`set_rows`) and that keep their graph.

    Rows are neither parameters nor buffers and never enter a state dict.

    Args:
        embed_dim: D, the length of a row.
        init_cfg: mmengine initialisation.

    Raises:
        ValueError: If ``embed_dim`` is not positive.
    """

    #: Whether rows may depend on the image, ``[B, K, D]``.
    takes_conditional = False

    def __init__(self, embed_dim: int, init_cfg: dict | list[dict] | None = None) -> None:
        super().__init__(init_cfg)
        if not embed_dim > 0:
            raise ValueError(f"`embed_dim` of {type(self).__name__} must be positive. Got {embed_dim}.")
        self.embed_dim = embed_dim
        self._rows: Held[Tensor] = Held()

    def _home(self) -> torch.device | None:
        """The device the rows must be on; None where any will do."""
        return None

    def set_rows(self, rows: Tensor | None) -> None:
        """Classify with these rows from now on.

        Args:
            rows: Unit rows ``[K, D]`` (``[B, K, D]`` where :attr:`takes_conditional`), floating, on this module's
                device, graph kept. ``None`` takes them away.

        Raises:
            TypeError: If ``rows`` is not a floating tensor.
            ValueError: If it has another shape, K = 0 or D other than ``embed_dim``, or lies on another device.
        """
        if rows is None:
            self._rows.take()
            return
        name = type(self).__name__
        if not isinstance(rows, Tensor) or not rows.is_floating_point():
            got = rows.dtype if isinstance(rows, Tensor) else type(rows).__name__
            raise TypeError(f"`rows` of {name} must be a floating tensor [K, {self.embed_dim}]. Got {got}.")
        dims = (2, 3) if self.takes_conditional else (2,)
        if rows.ndim not in dims or rows.shape[-2] == 0 or rows.shape[-1] != self.embed_dim:
            raise ValueError(
                f"`rows` of {name} must have shape [K, {self.embed_dim}], K >= 1. Got {list(rows.shape)}. "
                "Its `embed_dim` must be that of the text tower or rows file."
            )
        home = self._home()
        if home is not None and rows.device != home:
            raise ValueError(
                f"`rows` of {name} must be on its device, {home}. Got {rows.device}: "
                "move the prompt head together with the model."
            )
        self._rows.put(rows)

    @property
    def rows(self) -> Tensor | None:
        """The rows in use, or ``None``."""
        return self._rows.get()

    def _needed_rows(self) -> Tensor:
        rows = self._rows.get()
        if rows is None:
            raise RuntimeError(
                f"{type(self).__name__} has no rows to classify with. Call `set_rows(rows)` first: a model built on "
                "PromptedModel does so in `hand_out_rows()`, once a step, and again after `set_vocabulary()`."
            )
        return rows

"""How far learned predictions are from zero-shot CLIP's (B images, K classes, D embedding)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from subpt_dense.registry import MODELS
from subpt_dense.text import TextTower, encode_templates, get_templates


@MODELS.register_module()
class ZeroShotKL(nn.Module):
    """``KL(p_zs || p)``, the mean over images of the zero-shot probabilities' divergence from the learned ones.

    Its gradient is ProGrad's general direction (arXiv 2205.14865, section 3): :class:`subpt_dense.hooks.ConflictHook`
    removes what opposes it. It is a reference, not a loss to be added.

    Args:
        templates: Name of a template list, or the templates, of the zero-shot rows; take ones that the CLIP at hand was
            trained for.

    Raises:
        ValueError: If a template is refused.
    """

    def __init__(self, templates: str | Sequence[str]) -> None:
        super().__init__()
        self.templates = get_templates(templates)
        self._templates_name = templates if isinstance(templates, str) else f"{len(self.templates)} listed"

    def rows(self, tower: TextTower, vocabulary: Sequence[str]) -> Tensor:
        """The zero-shot rows ``[K, D]``, unit, float32, without graph; encoded at every call."""
        return encode_templates(tower, vocabulary, self.templates)

    def forward(self, logits: Tensor, zero_shot: Tensor) -> Tensor:
        """The divergence, a float32 scalar >= 0; 0 without images.

        Args:
            logits: ``[B, K]`` with the learned rows, with graph; B may be 0.
            zero_shot: ``[B, K]`` with the zero-shot rows, on the same scale. No gradient reaches them.

        Raises:
            ValueError: If the shapes differ, or are not ``[B, K]``.
        """
        if logits.ndim != 2 or logits.shape != zero_shot.shape:
            raise ValueError(
                "`logits` and `zero_shot` of ZeroShotKL must have one shape [B, K]. "
                f"Got {list(logits.shape)} and {list(zero_shot.shape)}."
            )
        learned, frozen = log_softmax(logits.float(), dim=1), log_softmax(zero_shot.detach().float(), dim=1)
        return kl_div(learned, frozen, reduction="sum", log_target=True) / max(1, len(logits))

    def summary(self) -> dict[str, Any]:
        """Plain facts for checkpoints and results."""
        return {"type": type(self).__name__, "templates": self._templates_name}

    def extra_repr(self) -> str:
        """For ``print``."""
        return f"templates={self._templates_name!r}"

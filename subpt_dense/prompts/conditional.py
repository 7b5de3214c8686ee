"""A learned context that each image shifts: CoCoOp.

Legend: B images, K classes, M context tokens, W text width, D embedding.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from subpt_dense.losses import TextAnchor
from subpt_dense.prompts.context import ContextPrompt
from subpt_dense.prompts.tower import frozen_maths
from subpt_dense.registry import MODELS
from subpt_dense.text import PromptTokens, TextSpec, pack_names


@MODELS.register_module()
class ConditionalPrompt(ContextPrompt):
    """``[SOS] v1(x)..vM(x) name . [EOT]`` with ``vm(x) = vm + pi(x)`` (CoCoOp, arXiv 2203.05557, section 3.2).

    ``pi``, ``Linear(D, D // 16) - ReLU - Linear(D // 16, W)``, gives one vector that is added to all M tokens. Every
    image has rows of its own: a step encodes B times what :class:`ContextPrompt` encodes once, and keeps the graph of
    them all, so that batches are small (the paper's hold one image). In eval nothing is kept of an image.

    Args:
        text: As in :class:`ContextPrompt`.
        length: M >= 1.
        anchors: None. What they would hold near the hand-crafted rows differs from image to image.
        vocabulary: Class names in label order; may be set later.
        **context: ``init_std``, ``init_words``, ``position``, ``encoder`` and ``max_tokens`` of :class:`ContextPrompt`.

    Attributes:
        context: The parameter ``[M, W]``.
        meta_in: The first layer of ``pi``.
        meta_out: The second.

    Raises:
        ValueError: If there are anchors, or ContextPrompt refuses its arguments.
    """

    conditional = True

    def __init__(
        self,
        text: dict | TextSpec,
        length: int = 4,
        anchors: Sequence[dict | TextAnchor] = (),
        vocabulary: Sequence[str] = (),
        **context: Any,
    ) -> None:
        if anchors:
            raise ValueError(
                "`anchors` of ConditionalPrompt must be empty: its features of a name differ from image to image. "
                f"Got {len(anchors)}. Anchors belong to ContextPrompt."
            )
        super().__init__(text, length=length, **context)
        hidden = max(1, self.embed_dim // 16)
        self.meta_in = nn.Linear(self.embed_dim, hidden)
        self.meta_out = nn.Linear(hidden, self.context.shape[1])
        if vocabulary:
            self.vocabulary = vocabulary

    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Rows of every image; in training with the graph to :attr:`context` and ``pi``, else without any.

        Args:
            image_features: Unit features ``[B, D]``, floating, on the context's device; B may be 0. No gradient reaches
                them.

        Returns:
            Unit rows ``[B, K, D]`` float32.

        Raises:
            RuntimeError: If there is no vocabulary.
            ValueError: If there are no features, or of another shape or device.
        """
        names = self._named()
        features = self._checked(image_features)
        if self.training and any(parameter.requires_grad for parameter in self.parameters()):
            return self._rows_of(features, names)
        with frozen_maths():
            return self._rows_of(features, names)

    def _checked(self, features: Tensor | None) -> Tensor:
        """A copy: features computed in inference mode may then meet a graph."""
        device = self.context.device
        if isinstance(features, Tensor):
            got = f"{features.dtype} {list(features.shape)} on {features.device}"
            right = features.is_floating_point() and features.ndim == 2 and features.shape[1] == self.embed_dim
            if right and features.device == device:
                return features.detach().clone()
        else:
            got = type(features).__name__
        raise ValueError(
            "`image_features` of ConditionalPrompt must be the images' unit features, floating, "
            f"[B, {self.embed_dim}] on {device}: its rows depend on the image. Got {got}."
        )

    def _rows_of(self, features: Tensor, names: tuple[str, ...]) -> Tensor:
        tokens = self._packed(names)
        contexts = self._shifted(features)  # [B, M, W]
        if not len(contexts):
            return contexts.sum().float().expand(0, len(names), self.embed_dim)  # a step without images has a graph too
        # One by one: each is a case for the shared prefix, which a context for every image and name would not be.
        return torch.stack([self._encode(context, tokens) for context in contexts])

    def _packed(self, names: tuple[str, ...]) -> PromptTokens:
        """The vocabulary's tokens, made once: no image changes them."""
        device = self.context.device
        tokens = self._tokens.get((names, device))
        if tokens is None:
            tokens = self._tokens.put(
                pack_names(self.tower(device), names, self.length, self.position), (names, device)
            )
        return tokens

    def _shifted(self, features: Tensor) -> Tensor:
        """``v + pi(x)``, ``[B, M, W]`` in the tower's wide dtype whatever that of the parameters or of autocast."""
        first, second = self.meta_in, self.meta_out
        with torch.autocast(features.device.type, enabled=False):
            wide = self.tower(features.device).wide_dtype
            hidden = relu(linear(features.to(wide), first.weight.to(wide), first.bias.to(wide)))  # [B, D // 16]
            shift = linear(hidden, second.weight.to(wide), second.bias.to(wide))  # [B, W]
            return self.context.to(wide) + shift[:, None]

    def identity(self) -> dict[str, Any]:
        """Adds the number of hidden units of ``pi``."""
        return super().identity() | {"meta_units": self.meta_in.out_features}

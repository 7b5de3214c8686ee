"""Hand-crafted prompts: zero-shot CLIP's rows (K classes, D embedding)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from subpt_dense.prompts.held import Held
from subpt_dense.prompts.tower import TowerPrompt, check_templates, frozen_maths
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, encode_templates, get_templates


@MODELS.register_module()
class TemplatePrompt(TowerPrompt):
    """Frozen rows from templates; with one template, zero-shot CLIP (arXiv 2103.00020, section 3.1.4).

    Each template's feature is normalised, the features are averaged and normalised again. Rows are computed once per
    vocabulary and device. Nothing is learned.

    Args:
        text: The tower, ``dict(model=..., pretrained=..., precision="fp32")``.
        templates: Name of a template list, or the templates, each with one ``{}``.
        vocabulary: Class names in label order; may be set later.

    Raises:
        ValueError: If the tower, a template or a name is refused.
    """

    _device_of: Tensor

    def __init__(
        self, text: dict | TextSpec, templates: str | Sequence[str] = "single", vocabulary: Sequence[str] = ()
    ) -> None:
        super().__init__(text)
        self.templates = get_templates(templates)
        # Without parameters, an empty buffer is what tells the head where the model was moved.
        self._rows: Held[Tensor] = Held()
        self.register_buffer("_device_of", torch.empty(0), persistent=False)
        if vocabulary:
            self.vocabulary = vocabulary

    def _check_vocabulary(self, names: tuple[str, ...]) -> None:
        check_templates(self.tower(torch.device("cpu")), names, self.templates)

    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Unit rows ``[K, D]`` float32, without graph.

        Raises:
            RuntimeError: If there is no vocabulary.
        """
        names, device = self._named(), self._device_of.device
        rows = self._rows.get((names, device))
        if rows is None:
            with frozen_maths():
                rows = encode_templates(self.tower(device), names, self.templates)
            self._rows.put(rows, (names, device))
        return rows

    def identity(self) -> dict[str, Any]:
        """Adds the templates."""
        return super().identity() | {"templates": list(self.templates)}

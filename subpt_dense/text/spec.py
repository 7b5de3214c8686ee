"""Which text tower is meant: what a config says (TextSpec), and what a prompt head keeps (TowerKey)."""

from dataclasses import dataclass

import torch

PRECISIONS: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TextSpec:
    """A text tower as a config names it.

    Args:
        model: An open_clip model, as listed by ``open_clip.list_models()`` (``open_clip.add_model_config`` adds a local
            model config to that list). OpenAI's weights want the ``-quickgelu`` names.
        pretrained: One of open_clip's tags for the model (``"openai"``), or the path of a local weights file
            (.safetensors, .pt, .pth or .bin).
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"`` for the frozen weights; norms and learned contexts stay float32.

    Raises:
        ValueError: If ``model`` or ``pretrained`` is empty (open_clip would give random weights), or ``precision`` is
            unknown.
    """

    model: str
    pretrained: str
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model.strip():
            raise ValueError(f"`model` of TextSpec must be the name of an open_clip model. Got {self.model!r}.")
        if not isinstance(self.pretrained, str) or not self.pretrained.strip():
            raise ValueError(
                f"`pretrained` of TextSpec must be an open_clip tag of {self.model!r} or the path of a weights file: "
                f"without one its weights would be random. Got {self.pretrained!r}."
            )
        if self.precision not in PRECISIONS:
            allowed = ", ".join(map(repr, PRECISIONS))
            raise ValueError(f"`precision` of TextSpec must be one of {allowed}. Got {self.precision!r}.")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the frozen linear weights."""
        return PRECISIONS[self.precision]


@dataclass(frozen=True)
class TowerKey:
    """A loaded text tower, by value: small, hashable, picklable. A prompt head keeps this and never the tower.

    Attributes:
        spec: Where the weights came from.
        weights_hash: SHA-256 (hex) of the text tower's float32 weights; it does not depend on the precision.
    """

    spec: TextSpec
    weights_hash: str

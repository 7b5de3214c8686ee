"""CLIP as a classifier whose words are learned (B images, S pixels, K classes, D embedding)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from subpt_dense.classification.image_tower import ImageTower, get_image_tower
from subpt_dense.heads import CosineClassifier, PromptedModel
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec


@MODELS.register_module()
class PromptedClassifier(PromptedModel, BaseModel):
    """Frozen image tower, one prompt head, cosine classifier: CoOp's model (arXiv 2109.01134, 3.2) for any head.

    Takes images, or features of the same tower that were computed beforehand (:class:`CachedFeatures`). The image tower
    is found by its spec in a process-wide cache: it enters no checkpoint.

    Args:
        prompt: Config of the prompt head.
        language: Defaults for ``prompt``, see :func:`subpt_dense.heads.complete_prompt`. Its ``text`` names the CLIP.
        image: The CLIP whose image tower is used, ``dict(model=..., pretrained=..., precision="fp32")``; by default
            ``language["text"]``.
        loss: Config of the loss, called with logits ``[B, K]``, labels ``[B]`` and, where the data give them,
            ``weight`` ``[B]``: such as :class:`subpt_dense.losses.SoftBackground`. By default the mean cross-entropy,
            which knows neither weights nor background.
        data_preprocessor: mmengine's; moves the data.

    Raises:
        ValueError: If no CLIP is named, or the head's rows have another length than the image features.
    """

    def __init__(
        self,
        prompt: dict,
        language: dict | None = None,
        image: Mapping[str, Any] | None = None,
        loss: Mapping[str, Any] | None = None,
        data_preprocessor: dict | None = None,
    ) -> None:
        super().__init__(prompt=prompt, language=language, data_preprocessor=data_preprocessor)
        image = image or (language or {}).get("text")
        if image is None:
            raise ValueError("`image` of PromptedClassifier must name a CLIP, as `language['text']` may. Got neither.")
        self._image = TextSpec(**image)
        tower = get_image_tower(self._image)
        self._tower_hash = tower.weights_hash
        rows = getattr(self.prompt, "embed_dim", tower.embed_dim)
        if rows != tower.embed_dim:
            raise ValueError(
                f"`prompt` of PromptedClassifier must give rows of the image tower's length, {tower.embed_dim} for "
                f"{self._image.model!r}. Got {rows}."
            )
        self.classifier = CosineClassifier(tower.embed_dim, scale=tower.scale)
        self.criterion: nn.Module = nn.CrossEntropyLoss() if loss is None else MODELS.build(dict(loss))
        # Without parameters of its own, an empty buffer is what tells where the model was moved.
        self.register_buffer("_device_of", torch.empty(0), persistent=False)

    def _set_num_classes(self, num_classes: int) -> None:
        """Rows say how many classes there are."""

    def image_tower(self) -> ImageTower:
        """The frozen image tower, on this model's device."""
        return get_image_tower(self._image, self.get_buffer("_device_of").device)

    def forward(
        self,
        inputs: Tensor,
        label: Tensor | None = None,
        mode: str = "tensor",
        tower: Sequence[str] = (),
        index: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor | dict[str, Tensor] | list[dict[str, Tensor]]:
        """Logits, losses or predictions of a batch.

        Args:
            inputs: uint8 images ``[B, 3, S, S]``, or unit features ``[B, D]``.
            label: Positions in the vocabulary, ``[B]`` int64; -1 for background, where the loss knows it.
            mode: ``tensor``: logits ``[B, K]``. ``loss``: the loss as ``loss_ce``, the head's own losses, and the
                batch's accuracy in percent, background left out (``acc``). ``predict``: a list of one dict, ``logits``,
                ``label`` and ``index``.
            tower: Weights hashes of the towers that made the features, where ``inputs`` are features.
            index: The items' places in their data set, ``[B]`` int64; handed on to the metric.
            weight: What each item counts in the loss, ``[B]``, >= 0; None: all the same.

        Raises:
            ValueError: If ``mode`` is another, features come from another tower than this model's, or background comes
                in testing.
        """
        mine = self._tower_hash
        if any(theirs != mine for theirs in tower):
            raise ValueError(
                f"`inputs` of PromptedClassifier must be features of its own image tower, {self._image.model!r} "
                f"({mine[:12]}). Got features of {next(t for t in tower if t != mine)[:12]}: the `image` of "
                "CachedFeatures, or what RegionSet's cache was made with, must be the model's CLIP."
            )
        features = inputs if inputs.ndim == 2 else self.image_tower().encode(inputs)
        self.hand_out_rows(features)
        logits = self.classifier(features)
        if mode == "tensor":
            return logits
        if mode == "predict":
            if label is not None and (label < 0).any():
                raise ValueError(
                    "`label` of PromptedClassifier must be >= 0 in testing: background has no class to be found. "
                    "Got -1. Set `background=None` of RegionSet there."
                )
            known = {"logits": logits, "label": label, "index": index}
            return [{key: value for key, value in known.items() if value is not None}]
        if mode != "loss" or label is None:
            raise ValueError(
                "`mode` of PromptedClassifier must be 'tensor', 'loss' (with `label`) or 'predict'. "
                f"Got {mode!r}{'' if label is not None else ' without labels'}."
            )
        weighted = {} if weight is None else {"weight": weight}
        hits = (logits.detach().argmax(dim=1) == label).float().sum()
        accuracy = 100 * (hits / (label >= 0).sum().clamp(min=1))
        return {"loss_ce": self.criterion(logits, label, **weighted), **self.prompt_losses(), "acc": accuracy}

"""Segmentors that classify pixels by text rows (B images, K classes, D embedding, H x W pixels)."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from mmseg.models.segmentors import EncoderDecoder
from mmseg.utils import OptSampleList, SampleList
from torch import Tensor, nn

from subpt_dense.heads import PromptedModel, hand_out_groups
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.calibrated import note_gamma
from subpt_dense.segmentation.dense_backbone import DenseCLIPBackbone
from subpt_dense.segmentation.map_facts import check_maps, is_map
from subpt_dense.segmentation.same_clip import check_clip
from subpt_dense.segmentation.slide import slide_logits


@MODELS.register_module()
class OVSegmentor(PromptedModel, EncoderDecoder):
    """Any mmseg encoder-decoder with one prompt head, whose rows feed every module in it that takes rows.

    The vocabulary is set from outside, by :class:`subpt_dense.hooks.VocabularyHook` or :meth:`set_vocabulary`. On a
    :class:`subpt_dense.segmentation.DenseCLIPBackbone` inputs may be its maps, computed beforehand
    (:class:`subpt_dense.segmentation.CachedMaps`): they go past the backbone.

    Args:
        prompt: Config of the prompt head.
        language: Defaults for ``prompt``, see :func:`subpt_dense.heads.complete_prompt`.
        test_cfg: As for ``mmseg.EncoderDecoder``; with ``mode="slide"`` also ``batch``, how many windows are classified
            at a time (8).
        backbone, decode_head, neck, auxiliary_head, train_cfg, data_preprocessor, pretrained, init_cfg: As for
            ``mmseg.EncoderDecoder``.

    Raises:
        ValueError: If the rows have another length than a head wants, or come from another CLIP than the dense
            features: their cosines would mean nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check_lengths()
        frozen = {"backbone": self.backbone, "decode_head.regions": getattr(self.decode_head, "regions", None)}
        for name, part in frozen.items():
            if hasattr(part, "text_hash"):  # a CLIP's image tower
                check_clip(self, name, backbone=part.key.spec.model, text_hash=part.text_hash)
        if isinstance(self.backbone, DenseCLIPBackbone) and getattr(self.decode_head, "scale", 0.0) is None:
            self.decode_head.scale = self.backbone.scale

    def _check_lengths(self) -> None:
        length = getattr(self.prompt, "embed_dim", None)
        features = {"backbone": self.backbone} if isinstance(self.backbone, DenseCLIPBackbone) else {}
        ids = {id(taker) for taker in self._row_takers()}
        takers = {name: part for name, part in self.named_modules() if id(part) in ids}
        for name, part in {**features, **takers}.items():
            wanted = getattr(part, "embed_dim", None)
            if None not in (length, wanted) and wanted != length:
                raise ValueError(
                    f"`prompt` of {type(self).__name__} must give rows of the length of `{name}`, {wanted}. "
                    f"Got {length}."
                )

    def set_vocabulary(self, names: Sequence[str], base: Collection[str] = ()) -> None:
        """Classify these names from now on: rows of old names go, class counts and groups follow.

        Args:
            names: Class names in label order, at least two.
            base: The seen ones, those that training had labels of, for heads that score them differently. A name that
                is not among them counts as unseen.

        Raises:
            ValueError: If there is one name only, or a name is empty, repeated, or refused by the prompt head. The
                model is then unchanged.
        """
        names = list(names)
        if len(names) < 2:
            raise ValueError(
                f"The vocabulary of {type(self).__name__} must have at least two names, of which a pixel gets the "
                f"best. Got {len(names)}."
            )
        super().set_vocabulary(names)
        hand_out_groups(self, names, base)

    def _set_num_classes(self, num_classes: int) -> None:
        others = self.auxiliary_head if self.with_auxiliary_head else []
        others = others if isinstance(others, (list, nn.ModuleList)) else [others]
        for module in (self, self.decode_head, *others):
            module.num_classes = module.out_channels = num_classes

    def extract_feat(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """The maps that heads read, of images ``[B, 3, H, W]``; of the backbone's own map ``[B, D, h, w]``, itself."""
        if not is_map(inputs):
            return super().extract_feat(inputs)
        return self.neck((inputs,)) if self.with_neck else (inputs,)

    def loss(self, inputs: Tensor, data_samples: SampleList) -> dict[str, Tensor]:
        """The host's losses, plus the prompt head's.

        Args:
            inputs: Normalised images ``[B, 3, H, W]``, or cached maps ``[B, D, h, w]``.
            data_samples: Their label maps ``[1, H, W]``, labels in vocabulary order, 255 where there is none.

        Raises:
            ValueError: If maps are of another tower or mode than the backbone.
        """
        check_maps(self.backbone, inputs, data_samples)
        self.hand_out_rows()
        losses = super().loss(inputs, data_samples)
        return losses | self.prompt_losses()

    def predict(self, inputs: Tensor, data_samples: OptSampleList = None) -> SampleList:
        """The host's class maps, labelled by position in the vocabulary; arguments as for :meth:`loss`.

        Raises:
            ValueError: If maps are of another tower or mode than the backbone, or are to be cut into windows.
        """
        check_maps(self.backbone, inputs, data_samples)
        self.hand_out_rows()
        found = super().predict(inputs, data_samples)
        note_gamma(self.decode_head, found)
        return found

    def _forward(self, inputs: Tensor, data_samples: OptSampleList = None) -> Tensor:
        check_maps(self.backbone, inputs, data_samples)
        self.hand_out_rows()
        return super()._forward(inputs, data_samples)

    def slide_inference(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """Logits ``[B, K, H, W]`` of images ``[B, 3, H, W]`` from windows, ``test_cfg.batch`` of them at a time.

        Raises:
            ValueError: If the inputs are maps: windows are parts of images.
        """
        if is_map(inputs):
            raise ValueError(
                "`test_cfg.mode` must be 'whole' for maps that were computed beforehand, which are of whole images. "
                "Got 'slide'."
            )

        def classify(crops: Tensor, of: Sequence[int]) -> Tensor:
            size = torch.Size(crops.shape[-2:])  # by this type mmseg's heads know a window
            return self.encode_decode(crops, [{**batch_img_metas[i], "img_shape": size} for i in of])

        crop, stride = tuple(self.test_cfg["crop_size"]), tuple(self.test_cfg["stride"])
        return slide_logits(inputs, classify, crop=crop, stride=stride, batch=self.test_cfg.get("batch", 8))

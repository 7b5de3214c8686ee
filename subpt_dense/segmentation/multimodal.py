"""mmseg's multimodal segmentor (SAN) on the rows of one prompt head (K classes, D embedding)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mmseg.models.segmentors import MultimodalEncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from subpt_dense.heads import PromptedModel, hand_out_groups
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.calibrated import note_gamma
from subpt_dense.segmentation.rows_text_encoder import RowsTextEncoder
from subpt_dense.segmentation.same_clip import check_clip
from subpt_dense.segmentation.san_weights import load_san_weights
from subpt_dense.text import TextSpec, load_tower


@MODELS.register_module()
class OVMultimodalSegmentor(PromptedModel, MultimodalEncoderDecoder):
    """SAN (arXiv 2302.12242) whose class rows come from the model's one prompt head, which may be learned.

    Takes ``mmseg.MultimodalEncoderDecoder``'s config with ``text_encoder=dict(type="subpt_dense.RowsTextEncoder",
    ...)``. The vocabulary is set from outside, by :class:`subpt_dense.hooks.VocabularyHook` or :meth:`set_vocabulary`,
    and every class count follows.

    Args:
        prompt: Config of the prompt head.
        language: Defaults for ``prompt``, see :func:`subpt_dense.heads.complete_prompt`.
        pretrained: Where the frozen image side comes from when weights are initialised: a CLIP of open_clip,
            ``dict(model=..., pretrained=...)``, every weight of which must fit; or, as in mmseg, the path or URL of a
            file made by its ``tools/model_converters/clip2mmseg.py``, which does not tell its CLIP.
        image_encoder, text_encoder, decode_head, train_cfg, test_cfg, data_preprocessor, asymetric_input,
            encoder_resolution, init_cfg: As for ``mmseg.MultimodalEncoderDecoder``.

    Raises:
        ValueError: If the text encoder is not ours or has no background row, the rows have another length than the
            mask embeddings or come from another CLIP than ``pretrained`` or ``text_encoder.text``, or the class weights
            of the loss differ between classes.
        FileNotFoundError, RuntimeError: If the weights of a CLIP that is named cannot be had.
    """

    def __init__(self, *args: Any, pretrained: str | Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        named = {"pretrained": pretrained, "text_encoder.text": (kwargs.get("text_encoder") or {}).get("text")}
        clips = {part: TextSpec(**clip) for part, clip in named.items() if isinstance(clip, Mapping)}
        super().__init__(*args, pretrained=None if "pretrained" in clips else pretrained, **kwargs)
        self._clip = clips.get("pretrained")
        encoder = self.text_encoder
        if not isinstance(encoder, RowsTextEncoder) or not encoder.cat_bg:
            raise ValueError(
                "`text_encoder` of OVMultimodalSegmentor must be a subpt_dense.RowsTextEncoder with `cat_bg=True`: the "
                f"head takes the last row for background. Got {type(encoder).__name__}."
            )
        lengths = {
            "prompt": getattr(self.prompt, "embed_dim", encoder.embed_dim),
            "text_encoder": encoder.embed_dim,
            "decode_head.maskgen_cfg": self.decode_head.rec_with_attnbias.proj.out_features,
        }
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{value} of {name}" for name, value in lengths.items())
            raise ValueError(f"Rows and mask embeddings of OVMultimodalSegmentor must have one length. Got {told}.")
        for part, spec in clips.items():
            check_clip(self, part, backbone=spec.model, text_hash=load_tower(spec).weights_hash)
        self._loss_weights = [_two_weights(loss) for loss in self._losses()]

    def _losses(self) -> list[Any]:
        losses = self.decode_head.loss_decode
        return list(losses) if isinstance(losses, nn.ModuleList) else [losses]

    def set_vocabulary(self, names: Sequence[str], base: Collection[str] = ()) -> None:
        """Segment into these names from now on; rows of old names go, class counts and groups follow.

        Args:
            names: At least two class names in label order.
            base: The seen ones, from whose scores the head subtracts its ``gamma``. A name that is not among them
                counts as unseen.

        Raises:
            ValueError: If there are fewer, or a name is empty, repeated, or refused by the prompt head. The model is
                then unchanged.
        """
        if len(names) < 2:
            raise ValueError(
                "`names` of OVMultimodalSegmentor must be at least two: mmseg takes one channel for a foreground "
                f"to be thresholded. Got {list(names)}; add a name for what is not it."
            )
        super().set_vocabulary(names)
        hand_out_groups(self, names, base)

    def _set_num_classes(self, num_classes: int) -> None:
        for module in (self, self.decode_head):
            module.num_classes = module.out_channels = num_classes
        if hasattr(self.decode_head, "match_masks"):  # built for training only
            self.decode_head.match_masks.num_classes = num_classes
        for loss, weights in zip(self._losses(), self._loss_weights, strict=True):
            if weights is not None:
                loss.class_weight = [weights[0]] * num_classes + [weights[1]]

    def init_weights(self) -> None:
        """The host's way; then the frozen image side from ``pretrained``, where that is an open_clip model."""
        super().init_weights()
        if self._clip is not None:
            load_san_weights(self.image_encoder, self.decode_head.rec_with_attnbias, self._clip)

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict[str, Tensor]:
        """The host's losses, plus the prompt head's.

        Args:
            inputs: Normalised images ``[B, 3, H, W]``.
            data_samples: Their label maps, labels in vocabulary order, 255 where ignored.
        """
        self.hand_out_rows()
        losses = super().loss(inputs, data_samples)
        return losses | self.prompt_losses()

    def predict(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> list[SegDataSample]:
        """The host's label maps, labelled by position in the vocabulary."""
        self.hand_out_rows()
        found = super().predict(inputs, data_samples)
        note_gamma(self.decode_head, found)
        return found

    def _forward(self, inputs: Tensor, data_samples: list[SegDataSample] | None = None) -> Tensor:
        """Scores ``[B, K, H, W]``; the host's own tensor mode does not run."""
        self.hand_out_rows()
        size = inputs.shape[2:]
        metas = [{"ori_shape": size, "img_shape": size, "pad_shape": size}] * len(inputs)
        return self.encode_decode(inputs, metas)


def _two_weights(loss: Any) -> tuple[float, float] | None:
    """Weight of a class and of background, where the loss has such a list."""
    weights = getattr(loss, "class_weight", None)
    if weights is None:
        return None
    *classes, background = weights
    if len(set(classes)) != 1:
        raise ValueError(
            "`class_weight` of decode_head.loss_decode must be one number for all classes and another for background: "
            f"the classes change. Got {len(set(classes))} different ones."
        )
    return classes[0], background

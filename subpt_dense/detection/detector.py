"""Two-stage detectors that classify regions by text rows (ViLD-text, arXiv 2104.13921, section 3.2)."""

from collections.abc import Collection, Sequence
from typing import Any

from mmdet.models.detectors import TwoStageDetector
from mmdet.structures import SampleList
from torch import Tensor

from subpt_dense.heads import PromptedModel, hand_out_groups
from subpt_dense.registry import MODELS


@MODELS.register_module()
class OVTwoStageDetector(PromptedModel, TwoStageDetector):
    """Any mmdet two-stage detector with one prompt head, whose rows feed every ``subpt_dense.TextClassifier`` in it.

    Build the classifiers with ``bbox_head.cls_predictor_cfg=dict(type="subpt_dense.TextClassifier", ...)`` and
    class-agnostic boxes. The vocabulary is set from outside, by :class:`subpt_dense.hooks.VocabularyHook` or
    :meth:`set_vocabulary`: while only base names are in it, novel classes are no negatives.

    Args:
        prompt: Config of the prompt head.
        language: Defaults for ``prompt``, see :func:`subpt_dense.heads.complete_prompt`.
        backbone, neck, rpn_head, roi_head, train_cfg, test_cfg, data_preprocessor, init_cfg: As for
            ``mmdet.TwoStageDetector``.

    Raises:
        ValueError: If a box or mask head predicts boxes or masks per class, which a changing vocabulary cannot have.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, module in self.roi_head.named_modules():
            for key in ("reg_class_agnostic", "class_agnostic"):
                if getattr(module, key, True) is False:
                    raise ValueError(f"`{key}` of roi_head.{name} must be True: the classes change. Got False.")
        self._regions_checked = False

    def set_vocabulary(self, names: Sequence[str], base: Collection[str] = ()) -> None:
        """Classify these names from now on: rows of old names go, class counts and groups follow.

        Args:
            names: Class names in label order.
            base: Those that training had labels of, for heads that score base and novel classes differently. A name
                that is not among them counts as novel.

        Raises:
            ValueError: If a name is empty, repeated, or refused by the prompt head. The model is then unchanged.
        """
        super().set_vocabulary(names)
        hand_out_groups(self, list(names), base)

    def _set_num_classes(self, num_classes: int) -> None:
        for module in self.roi_head.modules():
            if hasattr(module, "fc_cls"):
                module.num_classes = num_classes

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Any]:
        """The host's losses, plus the prompt head's.

        Args:
            batch_inputs: Normalised images ``[B, 3, H, W]``.
            batch_data_samples: Their boxes, labels in vocabulary order; cached regions where the RoI head wants them.

        Raises:
            ValueError: At the first step, if the regions are of another CLIP than the rows.
        """
        if not self._regions_checked:
            self._check_regions(batch_data_samples)
            self._regions_checked = True
        self.hand_out_rows()
        losses = super().loss(batch_inputs, batch_data_samples)
        return losses | self.prompt_losses()

    def _check_regions(self, samples: SampleList) -> None:
        """Rows and regions of different CLIPs fit by shape and mean nothing to each other."""
        rows = self.prompt.identity()
        for regions in (sample.regions for sample in samples if "regions" in sample):
            cache = dict(regions.metainfo_items())
            differing = [key for key in ("backbone", "weights") if key in cache and cache[key] != rows.get(key)]
            if differing:
                sides = "; ".join(f"{key}: cache {cache[key]!r}, rows {rows.get(key)!r}" for key in differing)
                raise ValueError(
                    f"The region cache must be of the CLIP that the rows come from. Got another one: {sides}. Extract "
                    "the regions with that CLIP, or name its cache in the training pipeline."
                )

    def predict(self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True) -> SampleList:
        """The host's detections, labelled by position in the vocabulary."""
        self.hand_out_rows()
        return super().predict(batch_inputs, batch_data_samples, rescale)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple:
        self.hand_out_rows()
        return super()._forward(batch_inputs, batch_data_samples)

"""ViLD's RoI head: a box head over text rows and an image branch beside it (N regions, K classes, D embedding)."""

from typing import Any

import torch
from mmdet.models.layers import multiclass_nms
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox2roi
from mmdet.utils import InstanceList
from mmengine.structures import InstanceData
from torch import Tensor, nn

from subpt_dense.detection.image_branch import ImageBranch
from subpt_dense.heads.ensemble import check_groups, fuse_scores
from subpt_dense.registry import MODELS

_MODES = ("text", "image", "ensemble")


@MODELS.register_module()
class ViLDRoIHead(StandardRoIHead):
    """mmdet's standard RoI head, plus an image branch that is distilled and has a say in testing (arXiv 2104.13921).

    In training the box head learns as it would without this class, from the detection losses, and the image branch
    learns from ``data_samples.regions`` alone (:class:`subpt_dense.detection.PackRegionInputs`); they share what lies
    below, backbone, neck and RoI features. In testing boxes and masks are the box head's in any mode; the class
    scores, one checkpoint serving all three, are

    - ``"text"``: the box head's softmax over rows and background, the mmdet path untouched;
    - ``"image"``: the image branch's softmax over rows, without a background;
    - ``"ensemble"``: their weighted geometric means, by group (:func:`subpt_dense.heads.fuse_scores`). As in ViLD's
      released code, the background takes part in the text softmax and is then left out, nothing is normalised again,
      and the RPN's score is not multiplied in.

    Args:
        image_branch: Config of :class:`subpt_dense.detection.ImageBranch`.
        distillation: Config of its loss, such as :class:`subpt_dense.losses.RegionDistillation`.
        mode: ``"text"``, ``"image"`` or ``"ensemble"``.
        base_weight, novel_weight: The image branch's share in the ensemble, for base and for other classes.
        **kwargs: As for ``mmdet.StandardRoIHead``.

    Raises:
        ValueError: If ``mode`` is another, or a weight is not in 0..1.
    """

    def __init__(
        self,
        *,
        image_branch: dict[str, Any],
        distillation: dict[str, Any],
        mode: str = "ensemble",
        base_weight: float = 1 / 3,
        novel_weight: float = 2 / 3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in _MODES:
            raise ValueError(f"`mode` of ViLDRoIHead must be one of {', '.join(map(repr, _MODES))}. Got {mode!r}.")
        for name, value in {"base_weight": base_weight, "novel_weight": novel_weight}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` of ViLDRoIHead must be in [0, 1]. Got {value}.")
        self.mode = mode
        self.weights = {"base_weight": base_weight, "novel_weight": novel_weight}
        self.image_branch: ImageBranch = MODELS.build(image_branch)
        self.distillation: nn.Module = MODELS.build(distillation)
        # No buffer: its length follows the vocabulary, and checkpoints and DDP's broadcasts must not see that.
        self._base: Tensor | None = None

    def set_groups(self, base: Tensor) -> None:
        """Score by these groups from now on: ``base``, bool ``[K]``, says which names of the vocabulary are base.

        Raises:
            TypeError, ValueError: If it is not a bool tensor of shape ``[K]``.
        """
        self._base = check_groups(base, type(self).__name__)

    def loss(
        self, x: tuple[Tensor, ...], rpn_results_list: InstanceList, batch_data_samples: SampleList
    ) -> dict[str, Any]:
        """The host's losses, plus ``loss_distill``.

        Args:
            x: Feature maps of all levels.
            rpn_results_list: Proposals of each image.
            batch_data_samples: Boxes, labels and regions of each image.

        Raises:
            ValueError: If a sample has no ``regions``, or their embeddings are of another length than the branch's.
        """
        losses = super().loss(x, rpn_results_list, batch_data_samples)
        return losses | {"loss_distill": self._distil(x, batch_data_samples)}

    def _distil(self, x: tuple[Tensor, ...], samples: SampleList) -> Tensor:
        absent = [sample.metainfo.get("img_path", "?") for sample in samples if "regions" not in sample]
        if absent:
            raise ValueError(
                f"ViLDRoIHead needs the cached regions of every training image. Got none for {absent[0]}: end the "
                "training pipeline with `subpt_dense.PackRegionInputs` in the place of `mmdet.PackDetInputs`."
            )
        # To float32 first: under bfloat16 autocast, cat refuses float16.
        targets = torch.cat([sample.regions.embeddings.float() for sample in samples])  # [N, D]
        if targets.shape[1] != self.image_branch.embed_dim:
            raise ValueError(
                f"The cached regions must have embeddings of {self.image_branch.embed_dim} numbers, `embed_dim` of the "
                f"image branch. Got {targets.shape[1]}: are they of another CLIP?"
            )
        rois = bbox2roi([sample.regions.bboxes for sample in samples])  # [N, 5]
        return self.distillation(self.image_branch(self._region_features(x, rois)), targets)

    def _region_features(self, x: tuple[Tensor, ...], rois: Tensor) -> Tensor:
        """``[N, C, h, w]``, as the box head sees them."""
        features = self.bbox_roi_extractor(x[: self.bbox_roi_extractor.num_inputs], rois)
        return self.shared_head(features) if self.with_shared_head else features

    def predict_bbox(
        self,
        x: tuple[Tensor, ...],
        batch_img_metas: list[dict],
        rpn_results_list: InstanceList,
        rcnn_test_cfg: Any,
        rescale: bool = False,
    ) -> InstanceList:
        """Detections of each image, scored by :attr:`mode`; arguments and results as the host's.

        Raises:
            RuntimeError: In the mode ``"ensemble"``, if nobody has said which names are base.
        """
        proposals = [result.bboxes for result in rpn_results_list]
        rois = bbox2roi(proposals)  # [N, 5]
        if self.mode == "text" or not len(rois):
            return super().predict_bbox(x, batch_img_metas, rpn_results_list, rcnn_test_cfg, rescale)
        outputs = self._bbox_forward(x, rois)
        image = self.image_branch.scores(self.image_branch(outputs["bbox_feats"]))  # [N, K]
        counts = [len(boxes) for boxes in proposals]
        found = self.bbox_head.predict_by_feat(
            rois=rois.split(counts),
            cls_scores=outputs["cls_score"].split(counts),
            bbox_preds=outputs["bbox_pred"].split(counts),
            batch_img_metas=batch_img_metas,
            rcnn_test_cfg=None,  # decoded boxes [n, 4] and softmax scores [n, K + 1], before the suppression
            rescale=rescale,
        )
        for result, scores in zip(found, image.split(counts), strict=True):
            result.scores = self._fuse(result.scores, scores)
        return found if rcnn_test_cfg is None else [_suppress(result, rcnn_test_cfg) for result in found]

    def _fuse(self, text: Tensor, image: Tensor) -> Tensor:
        """An image's scores ``[n, K + 1]``, 0 for background, of its ``[n, K + 1]`` and ``[n, K]`` by the branches."""
        classes = image if self.mode == "image" else fuse_scores(text[:, :-1], image, self._groups(), **self.weights)
        return torch.cat([classes, classes.new_zeros(len(classes), 1)], dim=1)

    def _groups(self) -> Tensor:
        classes = self.bbox_head.num_classes
        if self._base is None or len(self._base) != classes:
            got = "nothing" if self._base is None else f"the groups of {len(self._base)}"
            raise RuntimeError(
                f"ViLDRoIHead in the mode 'ensemble' must know which of the {classes} names are base. Got {got}: call "
                "`model.set_vocabulary(names, base=...)`, as VocabularyHook does, or use the mode 'text' or 'image'."
            )
        return self._base


def _suppress(result: InstanceData, test_cfg: Any) -> InstanceData:
    """What is left of an image's boxes ``[n, 4]`` and scores ``[n, K + 1]`` after multi-class suppression."""
    boxes, labels = multiclass_nms(
        result.bboxes, result.scores, test_cfg.score_thr, test_cfg.nms, test_cfg.max_per_img
    )  # [m, 5], [m]
    return InstanceData(bboxes=boxes[:, :4], scores=boxes[:, 4], labels=labels)

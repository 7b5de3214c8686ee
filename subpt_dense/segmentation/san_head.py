"""SAN's decode head, with mask losses that unlabelled pixels can be left out of.

Legend: B images, Q queries, K classes, G matched masks of a batch, P sampled points, h x w cells of a mask.
"""

from typing import Any

import torch
from mmcv.ops import point_sample
from mmengine.dist import all_reduce
from mmengine.structures import InstanceData
from mmseg.models.decode_heads.san_head import SideAdapterCLIPHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from subpt_dense.registry import MODELS
from subpt_dense.segmentation.calibrated import CalibratedScores
from subpt_dense.segmentation.mask_targets import (
    LabelledMatcher,
    mask_instances,
    place_weights,
    set_aside,
    uncertain_points,
)


@MODELS.register_module()
class OVSideAdapterHead(CalibratedScores, SideAdapterCLIPHead):
    """mmseg's side adapter (SAN, arXiv 2302.12242), which unlabelled pixels need not teach.

    Args:
        num_classes: To begin with; :class:`OVMultimodalSegmentor` lets it follow the vocabulary.
        ignore_unlabelled: Whether pixels of the ignored label take no part in matching and mask losses. As published
            (and in mmseg) they are outside of every mask, so that the pixels of unseen classes, which are ignored in
            zero-shot training, teach each query that they belong to no class. Queries without a mask learn "no object"
            either way. *Every* pixel of that label is left out, see :mod:`subpt_dense.segmentation.mask_targets`.
        gamma: What is subtracted from seen classes in testing, in units of a score: a pixel's score for a class is the
            sum, over all masks, of the mask's probability there times its probability of the class.
        **kwargs: As for ``mmseg.SideAdapterCLIPHead``.
    """

    def __init__(self, num_classes: int, *, ignore_unlabelled: bool = False, gamma: float = 0.0, **kwargs: Any) -> None:
        super().__init__(num_classes=num_classes, **kwargs)
        self.ignore_unlabelled, self.gamma = ignore_unlabelled, gamma
        if ignore_unlabelled and self.train_cfg:
            self.match_masks.assigner = LabelledMatcher(self.match_masks.assigner)

    def init_weights(self) -> None:
        """As the host, which without a file of CLIP weights fails on the frozen layers: they are left alone."""
        if isinstance(self.init_cfg, dict) and self.init_cfg.get("type") == "Pretrained_Part":
            super().init_weights()
        else:
            self.side_adapter_network.init_weights()

    def predict_by_feat(self, seg_logits: list[Tensor], batch_img_metas: list[dict]) -> Tensor:
        """The host's scores ``[B, K, H, W]``, those of seen classes less ``gamma``.

        Args:
            seg_logits: Mask logits ``[B, Q, h, w]`` and class logits ``[B, Q, K + 1]``, background last.
            batch_img_metas: As in the host.
        """
        return self.lower_seen(super().predict_by_feat(seg_logits, batch_img_metas))

    def loss(self, x: Any, batch_data_samples: list[SegDataSample], train_cfg: Any) -> dict[str, Tensor]:
        """The host's losses.

        Args:
            x: Images, CLIP's feature maps, scaled class rows ``[K + 1, D]``.
            batch_data_samples: With label maps.
            train_cfg: Not used, as in the host.
        """
        if not self.ignore_unlabelled:
            return super().loss(x, batch_data_samples, train_cfg)
        instances = mask_instances(batch_data_samples, self.ignore_index, mark=True, floating=True)
        masks, scores = self.forward(x, self.deep_supervision_idxs)
        return self.loss_by_feat(scores, masks, instances)

    def loss_by_feat(
        self, all_cls_scores: list[Tensor], all_mask_preds: list[Tensor], batch_gt_instances: list[InstanceData]
    ) -> dict[str, Tensor]:
        """Losses of every supervised layer, the last one's without prefix.

        Args:
            all_cls_scores: For each layer logits ``[B, Q, K + 1]``, background last.
            all_mask_preds: For each layer mask logits ``[B, Q, h, w]``.
            batch_gt_instances: ``labels`` and ``masks`` of each image; floating masks may be NaN where nobody labelled.
        """
        if not self.ignore_unlabelled:
            return super().loss_by_feat(all_cls_scores, all_mask_preds, batch_gt_instances)
        layers = zip(all_cls_scores, all_mask_preds, strict=True)
        *earlier, last = (self._layer_losses(scores, masks, batch_gt_instances) for scores, masks in layers)
        for index, losses in zip(self.deep_supervision_idxs, earlier, strict=False):
            last |= {f"d{index}.{name}": value for name, value in losses.items()}
        return last

    def _layer_losses(self, scores: Tensor, masks: Tensor, instances: list[InstanceData]) -> dict[str, Tensor]:
        labels, targets, matched, count = self.match_masks.get_targets(scores, masks, instances)
        total = scores.new_tensor([float(count)])
        all_reduce(total, op="mean")
        total = total.clamp(min=1)
        masks = masks[matched > 0]  # [G, h, w]
        logits, known, weights = self._at_points(masks, targets) if len(targets) else (masks, None, None)
        losses = {}
        heads = self.loss_decode if isinstance(self.loss_decode, nn.ModuleList) else [self.loss_decode]
        for head in heads:
            name = str(head.loss_name)
            if "loss_cls" in name:
                losses[name] = head(scores.flatten(0, 1), labels.flatten())
            elif known is None:
                losses[name] = logits.sum()  # no mask in the batch: a zero that keeps the graph
            elif "dice" in name:
                losses[name] = head(logits, known, avg_factor=total)
            else:
                losses[name] = head(logits, known, weight=weights, avg_factor=total * logits.shape[1])
        return losses

    def _at_points(self, masks: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, targets and weights ``[G, P]`` at the points where masks are supervised."""
        targets = targets.to(masks.dtype)
        with torch.no_grad():
            points = uncertain_points(
                masks,
                targets,
                num_points=self.train_cfg.num_points,
                oversample_ratio=self.train_cfg.oversample_ratio,
                importance_sample_ratio=self.train_cfg.importance_sample_ratio,
            )
            found = point_sample(targets[:, None], points)[:, 0]
            weights = place_weights(found)
        logits, found = set_aside(point_sample(masks[:, None], points)[:, 0], found)
        return logits, found, weights

"""Class-agnostic mask proposals, named by text rows twice: by their queries and by what CLIP sees in them.

Legend: B images, L supervised layers, Q queries, K classes, G matched masks of a batch, H x W pixels, h x w cells of a
mask, D embedding.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.structures import InstanceData
from mmseg.models.decode_heads import MaskFormerHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.nn.functional import interpolate

from subpt_dense.heads import TextClassifier, fuse_scores
from subpt_dense.registry import MODELS
from subpt_dense.segmentation.calibrated import CalibratedScores
from subpt_dense.segmentation.mask_targets import LabelledMatcher, mask_instances, place_weights, set_aside
from subpt_dense.segmentation.masked_regions import MaskedRegions


@MODELS.register_module()
class ProposalCLIPHead(CalibratedScores, MaskFormerHead):
    """zsseg's two stages (arXiv 2112.14757) on mmseg's MaskFormer, with the rows of the model's one prompt head.

    The query of each proposal is projected (two layers) and compared with the rows and a learned background row; this
    branch is trained with MaskFormer's losses, and through its rows so is a prompt. In testing the proposal's region is
    also cut out, emptied outside of its mask and encoded by a frozen CLIP (:class:`MaskedRegions`). Scores are
    ``branch^(1 - w) * clip^w``, w by group, the background's share left out (their ``semantic_inference``: branch and
    CLIP have 0.7 and 0.3 on seen classes, 0.3 and 0.7 on unseen ones for VOC, 0.8 and 0.2 for COCO-Stuff); a proposal
    without a pixel keeps ``branch^(1 - w)``. Differences: they learn rows beforehand. Those for COCO-Stuff name both
    branches; those for VOC name regions only, and hand-crafted ones the queries.

    Its backbone must be a :class:`subpt_dense.segmentation.BackboneWithImages`.

    Args:
        embed_dim: D, the length of a row.
        regions: Arguments of :class:`MaskedRegions`; ``None`` leaves the second stage out.
        hidden_dim: Width between the two layers of the projection.
        temperature: What cosines are divided by in both branches, > 0: one over CLIP's ``exp(logit_scale)``.
        seen_weight, unseen_weight: w of seen classes and of the others, in [0, 1]. Until :meth:`set_groups` is called
            every class counts as unseen.
        gamma: What is subtracted from seen classes in testing, in units of a score: a pixel's score for a class is the
            sum, over all masks, of the mask's probability there times its fused score for the class.
        ignore_unlabelled: Whether pixels of the ignored label take no part in matching and mask losses. As published
            (and in mmseg) they are outside of every mask. *Every* pixel of that label is left out, see
            :mod:`subpt_dense.segmentation.mask_targets`.
        **kwargs: As for ``mmseg.MaskFormerHead``, with a ``num_classes`` to begin with. A ``class_weight`` in
            ``loss_cls`` must be one number for all classes and another for background. ``in_index``, which mmseg's own
            configs state and its head does not read, must be that of all maps in order.

    Raises:
        FileNotFoundError, RuntimeError: If the weights of ``regions`` cannot be had.
        TypeError: If the host takes no argument of that name; mmdet would drop it.
        ValueError: If an argument is out of range, or the CLIP of ``regions`` has another D.
    """

    assigner: Any
    class_weight: list[float]
    cls_embed: Any

    def __init__(
        self,
        *,
        embed_dim: int,
        regions: Mapping[str, Any] | None = None,
        hidden_dim: int = 1024,
        temperature: float = 0.01,
        seen_weight: float = 0.3,
        unseen_weight: float = 0.7,
        gamma: float = 0.0,
        ignore_unlabelled: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**_taken(kwargs))
        for name, value in {"seen_weight": seen_weight, "unseen_weight": unseen_weight}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` of ProposalCLIPHead must be in [0, 1]. Got {value}.")
        *classes, background = self.class_weight
        if len(set(classes)) != 1:
            raise ValueError(
                "`class_weight` of loss_cls of ProposalCLIPHead must be one number for all classes and another for "
                f"background: the classes change. Got {len(set(classes))} different ones."
            )
        self._class_weights = (classes[0], background)
        self.embed_dim, self.temperature = embed_dim, temperature
        self.seen_weight, self.unseen_weight, self.gamma = seen_weight, unseen_weight, gamma
        self.regions = None if regions is None else MaskedRegions(**regions)
        if self.regions is not None and self.regions.embed_dim != embed_dim:
            raise ValueError(
                f"`embed_dim` of ProposalCLIPHead must be that of the CLIP of `regions`, {self.regions.embed_dim}. "
                f"Got {embed_dim}."
            )
        width = self.cls_embed.in_features
        classifier = TextClassifier(hidden_dim, embed_dim=embed_dim, temperature=temperature)
        self.cls_embed = nn.Sequential(nn.Linear(width, hidden_dim), nn.ReLU(), classifier)
        self.ignore_unlabelled = ignore_unlabelled
        if ignore_unlabelled and self.train_cfg:
            self.assigner = LabelledMatcher(self.assigner)

    def _follow_rows(self) -> Tensor:
        """The rows ``[K, D]``, after every class count here is set to theirs."""
        rows = self.cls_embed[-1]._needed_rows()
        self.num_classes = self.out_channels = len(rows)
        each, background = self._class_weights
        self.class_weight = self.loss_cls.class_weight = [each] * len(rows) + [background]
        return rows

    def loss(self, x: Sequence[Tensor], batch_data_samples: list[SegDataSample], train_cfg: Any) -> dict[str, Tensor]:
        """MaskFormer's losses of the proposal branch.

        Args:
            x: The backbone's maps, then the images ``[B, 3, H, W]``.
            batch_data_samples: With label maps.
            train_cfg: Not used, as in the host.
        """
        self._follow_rows()
        *maps, images = x
        metas = [_meta(sample.metainfo, images) for sample in batch_data_samples]
        instances = mask_instances(batch_data_samples, self.ignore_index, mark=self.ignore_unlabelled)
        scores, masks = self(maps, [SegDataSample(metainfo=meta) for meta in metas])
        return self.loss_by_feat(scores, masks, instances, metas)

    def _loss_by_feat_single(
        self,
        cls_scores: Tensor,
        mask_preds: Tensor,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Classification, mask and dice loss of one layer's ``[B, Q, K + 1]`` and ``[B, Q, h, w]``.

        The host's own, but for what is set aside, and for the focal loss's targets: as probabilities they need no
        compiled operator on a GPU.
        """
        found = self.get_targets(list(cls_scores), list(mask_preds), batch_gt_instances, batch_img_metas)
        labels, label_weights, targets, matched = (torch.cat(parts) for parts in found[:4])
        scores = cls_scores.flatten(0, 1)
        shares = scores.new_tensor(self.class_weight)[labels].sum()
        loss_cls = self.loss_cls(scores, labels, label_weights, avg_factor=shares)
        total = scores.new_tensor([float(found[4])])
        all_reduce(total, op="mean")
        total = total.clamp(min=1)
        masks = mask_preds.flatten(0, 1)[matched > 0]  # [G, h, w]
        if not len(targets):
            return loss_cls, masks.sum(), masks.sum()
        logits = interpolate(masks[:, None], targets.shape[-2:], mode="bilinear", align_corners=False).flatten(1)
        targets = targets.flatten(1)  # [G, H·W]
        weights = place_weights(targets)
        logits, targets = set_aside(logits, targets)
        loss_dice = self.loss_dice(logits, targets, avg_factor=total)
        column = (-1, 1)  # the focal loss takes places as samples of one class
        loss_mask = self.loss_mask(
            logits.reshape(column),
            targets.reshape(column),
            weight=weights.reshape(column),
            avg_factor=total * logits.shape[1],
        )
        return loss_cls, loss_mask, loss_dice

    def predict(self, x: Sequence[Tensor], batch_img_metas: list[dict], test_cfg: Any) -> Tensor:
        """Scores ``[B, K, H, W]``, >= 0 before ``gamma``, not summing to one.

        Args:
            x: The backbone's maps, then the images ``[B, 3, H, W]``.
            batch_img_metas: ``img_shape`` of each: what lies beyond it is padding.
            test_cfg: Not used, as in the host.
        """
        rows = self._follow_rows()
        *maps, images = x
        metas = [_meta(meta, images) for meta in batch_img_metas]
        scores, masks = (layers[-1] for layers in self(maps, [SegDataSample(metainfo=meta) for meta in metas]))
        found = []
        for image, score, mask, meta in zip(images, scores, masks, metas, strict=True):
            mask = interpolate(mask[None], size=images.shape[-2:], mode="bilinear", align_corners=False)[0].sigmoid()
            classes = score.softmax(dim=-1)[:, :-1]  # [Q, K]
            if self.regions is not None:
                height, width = meta["img_shape"]
                classes = self._fuse(self.regions, classes, rows, image[:, :height, :width], mask[:, :height, :width])
            found.append(torch.einsum("qk,qhw->khw", classes.to(mask.dtype), mask))
        return self.lower_seen(torch.stack(found))

    def _fuse(self, regions: MaskedRegions, classes: Tensor, rows: Tensor, image: Tensor, masks: Tensor) -> Tensor:
        """The branch's probabilities ``[Q, K]`` with CLIP's of the regions."""
        base = torch.zeros(len(rows), dtype=torch.bool) if self._base is None else self._base
        if len(base) != len(rows):
            raise ValueError(
                f"`base` of ProposalCLIPHead must name each of the {len(rows)} classes of the vocabulary as seen or "
                f"not. Got {len(base)}: call `set_groups(base)` after every change of the vocabulary."
            )
        embeddings, found = regions(image, masks)
        seen = torch.ones_like(classes, dtype=torch.float32)
        seen[found] = (embeddings @ rows.float().T / self.temperature).softmax(dim=-1)
        return fuse_scores(classes, seen, base, base_weight=self.seen_weight, novel_weight=self.unseen_weight)


def _taken(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments for the host, every one of which mmseg's head or its base in mmdet names."""
    hosts = (MaskFormerHead, *MaskFormerHead.__bases__)
    known = {name for host in hosts for name in inspect.signature(host.__init__).parameters} - {"self", "kwargs"}
    given = dict(kwargs)
    index, maps = given.pop("in_index", None), list(range(len(given.get("in_channels", ()))))
    if index not in (None, maps, tuple(maps)):
        raise ValueError(f"`in_index` of ProposalCLIPHead must be {maps}: it reads all maps. Got {index}.")
    unknown = sorted(set(given) - known)
    if unknown:
        raise TypeError(
            "The arguments of ProposalCLIPHead must be its own, or those of mmseg.MaskFormerHead. Got "
            f"{', '.join(f'`{name}`' for name in unknown)}, which neither has."
        )
    return given


def _meta(meta: Mapping[str, Any], images: Tensor) -> dict[str, Any]:
    """What mmdet's head reads: the batch's size, and what part of it is the image (in a sliding window all of it)."""
    size = tuple(images.shape[-2:])
    shape = tuple(min(own, whole) for own, whole in zip(meta["img_shape"][:2], size, strict=True))
    return {"batch_input_shape": size, "img_shape": shape}

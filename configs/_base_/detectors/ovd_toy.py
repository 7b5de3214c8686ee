"""Faster R-CNN on the tiny CLIP's own image trunk (stride 8, no neck), classified by text rows."""

clip = "data/toy/clip_seed0.pt"
coder = dict(type="mmdet.DeltaXYWHBBoxCoder", target_means=[0.0] * 4)
assigner = dict(type="mmdet.MaxIoUAssigner", ignore_iof_thr=-1)
sampler = dict(type="mmdet.RandomSampler", num=64, pos_fraction=0.5, neg_pos_ub=-1)
nms = dict(type="nms", iou_threshold=0.7)

model = dict(
    type="subpt_dense.OVTwoStageDetector",
    language=dict(
        text=dict(model="subpt-toy", pretrained=clip),
        templates="toy",
        names=dict(
            generic=dict(vocabulary="data/toy/names_generic.txt", exclude="data/toy/split.json", limit=64),
            heldout=dict(split="data/toy/split.json", group="novel"),
        ),
    ),
    data_preprocessor=dict(
        type="mmdet.DetDataPreprocessor",
        mean=[127.5] * 3,
        std=[63.75] * 3,
        bgr_to_rgb=True,
        pad_size_divisor=8,
    ),
    backbone=dict(type="subpt_dense.CLIPTrunk", model="subpt-toy", pretrained=clip),
    rpn_head=dict(
        type="mmdet.RPNHead",
        in_channels=128,
        feat_channels=64,
        anchor_generator=dict(type="mmdet.AnchorGenerator", scales=[4.0], ratios=[0.6, 1.0, 1.7], strides=[8]),
        bbox_coder=dict(target_stds=[1.0] * 4, **coder),
        loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=True),
        loss_bbox=dict(type="mmdet.L1Loss"),
    ),
    roi_head=dict(
        type="mmdet.StandardRoIHead",
        bbox_roi_extractor=dict(
            type="mmdet.SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=1),
            out_channels=128,
            featmap_strides=[8],
        ),
        bbox_head=dict(
            type="mmdet.Shared2FCBBoxHead",
            in_channels=128,
            fc_out_channels=256,
            roi_feat_size=7,
            bbox_coder=dict(target_stds=[0.1, 0.1, 0.2, 0.2], **coder),
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(type="subpt_dense.TextClassifier", embed_dim=64, temperature=0.04),
            loss_cls=dict(type="mmdet.CrossEntropyLoss", use_sigmoid=False),
            loss_bbox=dict(type="mmdet.L1Loss"),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(pos_iou_thr=0.6, neg_iou_thr=0.3, min_pos_iou=0.3, match_low_quality=True, **assigner),
            sampler=dict(add_gt_as_proposals=False, **sampler),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(nms_pre=200, max_per_img=50, nms=nms, min_bbox_size=0),
        rcnn=dict(
            assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5, min_pos_iou=0.5, match_low_quality=False, **assigner),
            sampler=dict(add_gt_as_proposals=True, **sampler),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=200, max_per_img=30, nms=nms, min_bbox_size=0),
        rcnn=dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.5), max_per_img=50),
    ),
)

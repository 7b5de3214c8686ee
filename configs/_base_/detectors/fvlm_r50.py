"""F-VLM: Faster R-CNN whose backbone is the frozen image tower of CLIP RN50; neck and heads are trained."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

clip = dict(model="RN50-quickgelu", pretrained="openai")
norm = dict(type="mmengine.SyncBN")

model = dict(
    type="subpt_dense.FVLMDetector",
    language=dict(
        text=clip,
        templates="imagenet80",
        names=dict(
            generic=dict(vocabulary="imagenet", exclude="coco_ovd"),  # 902 names
            heldout=dict(split="coco_ovd", group="novel"),
        ),
    ),
    # CLIP's own mean and deviation, in 0..255
    data_preprocessor=dict(
        type="mmdet.DetDataPreprocessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
    ),
    backbone=dict(_delete_=True, type="subpt_dense.FrozenCLIPBackbone", **clip),
    neck=dict(type="mmdet.FPN", norm_cfg=norm),
    rpn_head=dict(type="mmdet.RPNHead", num_convs=2),
    roi_head=dict(
        type="subpt_dense.FVLMRoIHead",
        fusion=dict(type="subpt_dense.VLMFusion", embed_dim=1024),
        bbox_head=dict(
            type="mmdet.Shared4Conv1FCBBoxHead",
            norm_cfg=norm,
            num_classes=48,  # follows the vocabulary: 65 in testing
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(type="subpt_dense.TextClassifier", embed_dim=1024, temperature=0.01),
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)

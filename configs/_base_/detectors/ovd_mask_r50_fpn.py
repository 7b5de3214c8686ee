"""ViLD-text on LVIS: Mask R-CNN, ResNet-50 FPN, regions classified by the rows of CLIP ViT-B/32, one mask for all."""

_base_ = "mmdet::_base_/models/mask-rcnn_r50_fpn.py"

model = dict(
    type="subpt_dense.OVTwoStageDetector",
    language=dict(
        text=dict(model="ViT-B-32-quickgelu", pretrained="openai"),
        templates="imagenet80",
        names=dict(
            generic=dict(vocabulary="imagenet", exclude="lvis_v1"),
            heldout=dict(split="lvis_v1", group="novel"),
        ),
    ),
    roi_head=dict(
        bbox_head=dict(
            num_classes=866,  # follows the vocabulary: 1203 in testing
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(type="subpt_dense.TextClassifier", embed_dim=512, temperature=0.01),
        ),
        mask_head=dict(class_agnostic=True),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.0001, max_per_img=300)),
)

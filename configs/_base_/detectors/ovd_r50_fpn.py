"""ViLD-text: Faster R-CNN, ResNet-50 FPN, regions classified by the rows of CLIP ViT-B/32."""

_base_ = "mmdet::_base_/models/faster-rcnn_r50_fpn.py"

model = dict(
    type="subpt_dense.OVTwoStageDetector",
    language=dict(
        text=dict(model="ViT-B-32-quickgelu", pretrained="openai"),
        templates="imagenet80",
        names=dict(
            generic=dict(vocabulary="imagenet", exclude="coco_ovd"),  # 902 names
            heldout=dict(split="coco_ovd", group="novel"),
        ),
    ),
    roi_head=dict(
        bbox_head=dict(
            num_classes=48,  # follows the vocabulary: 65 in testing
            reg_class_agnostic=True,
            cls_predictor_cfg=dict(type="subpt_dense.TextClassifier", embed_dim=512, temperature=0.01),
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)

"""F-VLM for LVIS: Mask R-CNN, boxes and masks class-agnostic, on the frozen image tower of CLIP RN50."""

_base_ = "./fvlm_r50.py"

model = dict(
    language=dict(
        names=dict(
            generic=dict(vocabulary="imagenet", exclude="lvis_v1"),
            heldout=dict(split="lvis_v1", group="novel"),
        ),
    ),
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        bbox_head=dict(num_classes=866),  # follows the vocabulary: 1203 in testing
        mask_roi_extractor=dict(
            type="mmdet.SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type="mmdet.FCNMaskHead",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=1,
            class_agnostic=True,
            loss_mask=dict(type="mmdet.CrossEntropyLoss", use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=28)),
    test_cfg=dict(rcnn=dict(score_thr=1e-4, max_per_img=300, mask_thr_binary=0.5)),
)

"""The toy detector with a mask head: one mask for all classes, whatever their number."""

_base_ = "./ovd_toy.py"

model = dict(
    roi_head=dict(
        mask_roi_extractor=dict(
            type="mmdet.SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=1),
            out_channels=128,
            featmap_strides=[8],
        ),
        mask_head=dict(
            type="mmdet.FCNMaskHead",
            num_convs=2,
            in_channels=128,
            conv_out_channels=64,
            class_agnostic=True,
            loss_mask=dict(type="mmdet.CrossEntropyLoss", use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)

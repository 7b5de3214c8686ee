"""Pascal Context's 59 classes, background ignored: for testing only, on other names than those trained on."""

_base_ = "./zss_images.py"

data_help = (
    "Get VOC 2010 and Pascal Context, see data/README.md, then make the label maps with: "
    "python tools/prepare_data.py context-zss --root data/VOCdevkit/VOC2010"
)
train_dataloader = None
val_dataloader = dict(
    dataset=dict(
        split="pc59",
        data_root="data/VOCdevkit/VOC2010/",
        ann_file="ImageSets/SegmentationContext/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
        reduce_zero_label=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="context-59 transfer, background ignored")
test_evaluator = val_evaluator

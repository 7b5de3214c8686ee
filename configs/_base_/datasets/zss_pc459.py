"""Pascal Context's 459 classes: for testing only. The maps have 16 bits, so that 255 is a class and 65535 ignored."""

_base_ = "./zss_images.py"

data_help = (
    "Get VOC 2010 and Pascal Context, see data/README.md, then make the label maps with: "
    "python tools/prepare_data.py context-zss --root data/VOCdevkit/VOC2010"
)
train_dataloader = None
val_dataloader = dict(
    dataset=dict(
        split="pc459",
        data_root="data/VOCdevkit/VOC2010/",
        ann_file="ImageSets/SegmentationContext/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext459"),
        reduce_zero_label=True,
        ignore_index=65535,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="context-459 transfer", ignore_index=65535)
test_evaluator = val_evaluator

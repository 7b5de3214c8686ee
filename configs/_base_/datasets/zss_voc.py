"""VOC 2012 with SBD, 15 seen / 5 unseen classes; the background is ignored (SPNet's split, as zsseg has it)."""

_base_ = "./zss_images.py"

data_help = (
    "Get VOC 2012 and SBD, see data/README.md, unpack them under data/VOCdevkit, then make the label maps with: "
    "python tools/prepare_data.py voc-zss --root data/VOCdevkit"
)
here = dict(split="voc_zss", data_root="data/VOCdevkit/VOC2012/", reduce_zero_label=True)
train_dataloader = dict(
    dataset=dict(
        ann_file="ImageSets/Segmentation/trainaug.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassZSS"),
        **here,
    ),
)
# Scores are on VOC's own maps, as published.
val_dataloader = dict(
    dataset=dict(
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        **here,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="voc-15/5 generalised, background ignored")
test_evaluator = val_evaluator

names = dict(
    generic=dict(vocabulary="imagenet", exclude="voc_zss"),
    heldout=dict(split="voc_zss", group="novel"),
)

"""Pascal Context's 59 classes, 10 of them unseen (ZS3Net's split); the background is ignored.

The published count of 50 seen classes has the background as one of them: that is `zss_context60.py`.
"""

_base_ = "./zss_images.py"

data_help = (
    "Get VOC 2010 and Pascal Context's trainval.tar.gz and labels.txt, see data/README.md, unpack them under "
    "data/VOCdevkit/VOC2010, then make the label maps with: "
    "python tools/prepare_data.py context-zss --root data/VOCdevkit/VOC2010"
)
here = dict(
    split="context_zss",
    data_root="data/VOCdevkit/VOC2010/",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClassContext"),
    reduce_zero_label=True,
)
train_dataloader = dict(dataset=dict(ann_file="ImageSets/SegmentationContext/train.txt", **here))
val_dataloader = dict(dataset=dict(ann_file="ImageSets/SegmentationContext/val.txt", **here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="context-49/10 generalised, background ignored")
test_evaluator = val_evaluator

names = dict(
    generic=dict(vocabulary="imagenet", exclude="context_zss"),
    heldout=dict(split="context_zss", group="novel"),
)

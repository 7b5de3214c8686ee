"""VOC 2012's 20 classes, background ignored: for testing only, on other names than those trained on."""

_base_ = "./zss_images.py"

data_help = (
    "Get VOCtrainval_11-May-2012.tar, see data/README.md, and unpack it under data: "
    "python tools/check_data.py voc20 says what is there."
)
train_dataloader = None
val_dataloader = dict(
    dataset=dict(
        split="voc20",
        data_root="data/VOCdevkit/VOC2012/",
        ann_file="ImageSets/Segmentation/val.txt",
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        reduce_zero_label=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="voc-20 transfer, background ignored")
test_evaluator = val_evaluator

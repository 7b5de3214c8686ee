"""COCO-Stuff, 156 seen / 15 unseen classes (SPNet's split, as zsseg has it)."""

_base_ = "./zss_images.py"

data_help = (
    "Get COCO 2017's images and stuffthingmaps_trainval2017.zip, see data/README.md, unpack them under "
    "data/coco_stuff164k, then make the label maps with: "
    "python tools/prepare_data.py cocostuff-zss --root data/coco_stuff164k"
)
here = dict(split="coco_stuff_zss", data_root="data/coco_stuff164k/", seg_map_suffix="_labelTrainIds.png")
train_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/train2017", seg_map_path="annotations/train2017"), **here),
)
val_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/val2017", seg_map_path="annotations/val2017"), **here),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="coco-stuff-156/15 generalised")
test_evaluator = val_evaluator

names = dict(
    generic=dict(vocabulary="imagenet", exclude="coco_stuff_zss"),
    heldout=dict(split="coco_stuff_zss", group="novel"),
)

"""Cached regions of LVIS v1: proposals and boxes of the 866 base classes by IoU; tested on the boxes of all 1203."""

_base_ = "./regions_coco.py"

root = "data/lvis_v1/"
embed = "python tools/extract_regions.py --images data/lvis_v1 --annotations data/lvis_v1/annotations/"
train, val = "lvis_v1_train_base.json", "lvis_v1_val.json"
data_help = (
    "Get lvis_v1_train.json.zip and lvis_v1_val.json.zip from lvisdataset.org and COCO's images, and unpack them under "
    "data/lvis_v1; then make the split file, a detector whose RPN proposes regions, and the caches, with:\n"
    "  python tools/prepare_data.py lvis-ovd --root data/lvis_v1\n"
    "  python tools/train.py configs/ovd_lvis_template.py\n"
    f"  {embed}{train} --out data/lvis_v1/regions "
    "--rpn configs/ovd_lvis_template.py work_dirs/ovd_lvis_template/epoch_24.pth\n"
    f"  {embed}{train} --out data/lvis_v1/regions_truth --ground-truth\n"
    f"  {embed}{val} --out data/lvis_v1/regions_val_truth --ground-truth"
)
names = dict(
    generic=dict(vocabulary="imagenet", exclude="lvis_v1"),
    heldout=dict(split="lvis_v1", group="novel"),
)
here = dict(data_root=root, split="lvis_v1")

train_dataloader = dict(dataset=dict(ann_file="annotations/lvis_v1_train_base.json", **here))
val_dataloader = dict(dataset=dict(ann_file="annotations/lvis_v1_val.json", **here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="lvis-v1-866/337 annotated boxes, base-to-novel")
test_evaluator = val_evaluator

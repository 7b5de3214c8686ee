"""COCO val2017, for transfer: its 80 names in place of those trained on; see tools/transfer.py."""

_base_ = "./ovd_transfer.py"

root = "data/coco/"
ann_file = "annotations/instances_val2017.json"
data_help = (
    "Get val2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them under data/coco. "
    "python tools/transfer.py then needs nothing more."
)

test_dataloader = dict(
    dataset=dict(split="coco80", data_root=root, ann_file=ann_file, data_prefix=dict(img="val2017/")),
)
test_evaluator = dict(ann_file=root + ann_file, protocol="coco-val2017 transfer")

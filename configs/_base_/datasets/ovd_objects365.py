"""Objects365 v1 validation, for transfer: 365 names in place of those trained on; see tools/transfer.py."""

_base_ = "./ovd_transfer.py"

root = "data/Objects365/Obj365_v1/"
ann_file = "annotations/objects365_val.json"
data_help = (
    "Get Objects365's validation set from objects365.org and lay it out as data/README.md says. "
    "python tools/transfer.py then needs nothing more."
)

test_dataloader = dict(
    dataset=dict(split="objects365_v1", data_root=root, ann_file=ann_file, data_prefix=dict(img="val/")),
)
test_evaluator = dict(ann_file=root + ann_file, protocol="objects365-v1-val transfer")

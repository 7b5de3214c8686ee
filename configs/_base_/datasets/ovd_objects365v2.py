"""Objects365 v2 validation, for transfer: 365 names in place of those trained on; see tools/transfer.py."""

_base_ = "./ovd_objects365.py"

root = "data/Objects365/Obj365_v2/"
ann_file = "annotations/zhiyuan_objv2_val.json"

test_dataloader = dict(dataset=dict(split="objects365_v2", data_root=root, ann_file=ann_file))
test_evaluator = dict(ann_file=root + ann_file, protocol="objects365-v2-val transfer")

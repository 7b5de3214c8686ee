"""Cached regions of the toy scenes: proposals and boxes of base classes by IoU; tested on the boxes of all classes."""

root = "data/toy/"
split = root + "split.json"
embed = "python tools/extract_regions.py --model subpt-toy --pretrained data/toy/clip_seed0.pt --annotations "
train, val = "data/toy/annotations/instances_train_seen.json", "data/toy/annotations/instances_val_all.json"
data_help = (
    "Make the toy world, a detector whose RPN proposes regions, and the caches of proposals and boxes, with:\n"
    "  python -m subpt_dense.toyworld.build --root data/toy\n"
    "  python tools/train.py configs/ovd_toy_template.py\n"
    f"  {embed}{train} --images data/toy/train --out data/toy/regions "
    "--rpn configs/ovd_toy_template.py work_dirs/ovd_toy_template/iter_300.pth\n"
    f"  {embed}{train} --images data/toy/train --out data/toy/regions_truth --ground-truth\n"
    f"  {embed}{val} --images data/toy/val --out data/toy/regions_val_truth --ground-truth"
)
templates = "toy"
names = dict(
    generic=dict(vocabulary="data/toy/names_generic.txt", exclude=split, limit=64),
    heldout=dict(split=split, group="novel"),
)
clip = dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")
regions = dict(type="subpt_dense.RegionSet", data_root=root, split=split, image=clip)

train_dataloader = dict(
    batch_size=512,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        group="base",
        ann_file="annotations/instances_train_seen.json",
        data_prefix=dict(proposals="regions/", truth="regions_truth/"),
        # Not balanced: of so few classes background is a small part, and with half their weight it drowns them.
        background_kept=0.1,
        **regions,
    ),
)
val_dataloader = dict(
    batch_size=1024,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        group="all",
        ann_file="annotations/instances_val_all.json",
        data_prefix=dict(truth="regions_val_truth/"),
        background=None,
        **regions,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.GroupAccuracy", protocol="toy-ovd-48/17 annotated boxes, base-to-novel")
test_evaluator = val_evaluator

"""Cached regions of COCO-OVD: proposals and boxes of the 48 base classes by IoU; tested on the boxes of all 65."""

root = "data/coco/"
embed = "python tools/extract_regions.py --annotations data/coco/annotations/"
train, val = "instances_train2017_seen_2.json", "instances_val2017_all_2.json"
data_help = (
    "Get train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them under "
    "data/coco; then make the split files, a detector whose RPN proposes regions, and the caches, with:\n"
    "  python tools/prepare_data.py coco-ovd --root data/coco\n"
    "  python tools/train.py configs/ovd_coco_template.py\n"
    f"  {embed}{train} --images data/coco/train2017 --out data/coco/regions "
    "--rpn configs/ovd_coco_template.py work_dirs/ovd_coco_template/epoch_12.pth\n"
    f"  {embed}{train} --images data/coco/train2017 --out data/coco/regions_truth --ground-truth\n"
    f"  {embed}{val} --images data/coco/val2017 --out data/coco/regions_val_truth --ground-truth"
)
templates = "imagenet80"
names = dict(
    generic=dict(vocabulary="imagenet", exclude="coco_ovd"),
    heldout=dict(split="coco_ovd", group="novel"),
)
clip = dict(model="ViT-B-32-quickgelu", pretrained="openai")
regions = dict(type="subpt_dense.RegionSet", data_root=root, split="coco_ovd", image=clip)

train_dataloader = dict(
    batch_size=512,
    num_workers=4,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        group="base",
        ann_file="annotations/instances_train2017_seen_2.json",
        data_prefix=dict(proposals="regions/", truth="regions_truth/"),
        background_kept=0.1,
        balanced=True,
        **regions,
    ),
)
val_dataloader = dict(
    batch_size=1024,
    num_workers=4,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        group="all",
        ann_file="annotations/instances_val2017_all_2.json",
        data_prefix=dict(truth="regions_val_truth/"),
        background=None,
        **regions,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.GroupAccuracy", protocol="coco-ovd-48/17 annotated boxes, base-to-novel")
test_evaluator = val_evaluator

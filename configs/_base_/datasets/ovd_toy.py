"""The toy scenes in the COCO layout: 48 base classes in training, all 65 in testing."""

root = "data/toy/"
split = root + "split.json"
data_help = "Make the toy world with: python -m subpt_dense.toyworld.build --root data/toy"

load = [
    dict(type="subpt_dense.LoadImage", on_error="raise"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True),
]
resize = dict(type="mmdet.Resize", scale=(128, 128), keep_ratio=True)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="mmengine.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="subpt_dense.OVCocoDataset",
        split=split,
        group="base",
        data_root=root,
        ann_file="annotations/instances_train_seen.json",
        data_prefix=dict(img="train/"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=[
            *load,
            resize,
            dict(type="mmdet.RandomFlip", prob=0.5),
            dict(type="mmdet.PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        type="subpt_dense.OVCocoDataset",
        split=split,
        group="all",
        data_root=root,
        ann_file="annotations/instances_val_all.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
        pipeline=[
            dict(type="subpt_dense.LoadImage"),
            resize,
            load[1],
            dict(type="mmdet.PackDetInputs", meta_keys=meta_keys),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="subpt_dense.OVDMetric",
    ann_file=root + "annotations/instances_val_all.json",
    protocol="toy-ovd-48/17 generalised",
)
test_evaluator = val_evaluator

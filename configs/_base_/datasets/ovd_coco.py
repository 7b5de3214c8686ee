"""COCO-OVD: 48 base classes in training, all 65 in testing ("generalised"); 15 classes are ignored everywhere."""

root = "data/coco/"
data_help = (
    "Get train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them under "
    "data/coco, then make the split files with: python tools/prepare_data.py coco-ovd --root data/coco"
)

load = [
    dict(type="subpt_dense.LoadImage", on_error="raise"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True),
]
resize = dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True)
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    batch_sampler=dict(type="mmdet.AspectRatioBatchSampler"),
    dataset=dict(
        type="subpt_dense.OVCocoDataset",
        split="coco_ovd",
        group="base",
        data_root=root,
        ann_file="annotations/instances_train2017_seen_2.json",
        data_prefix=dict(img="train2017/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=[
            *load,
            resize,
            dict(type="mmdet.RandomFlip", prob=0.5),
            dict(type="mmdet.PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        type="subpt_dense.OVCocoDataset",
        split="coco_ovd",
        group="all",
        data_root=root,
        ann_file="annotations/instances_val2017_all_2.json",
        data_prefix=dict(img="val2017/"),
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
    ann_file=root + "annotations/instances_val2017_all_2.json",
    protocol="coco-ovd-48/17 generalised",
)
test_evaluator = val_evaluator

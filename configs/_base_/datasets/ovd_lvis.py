"""LVIS v1: 866 base classes (frequent, common) in training, all 1203 in testing, federated; rare ones are novel."""

root = "data/lvis_v1/"
split = "lvis_v1"
data_help = (
    "Get lvis_v1_train.json.zip and lvis_v1_val.json.zip from lvisdataset.org, unpack them under "
    "data/lvis_v1/annotations, link COCO's train2017 and val2017 into data/lvis_v1, then make the training file with: "
    "python tools/prepare_data.py lvis-ovd --root data/lvis_v1"
)

load = [
    dict(type="subpt_dense.LoadImage", on_error="raise"),
    dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
]
scales = [(1333, side) for side in (640, 672, 704, 736, 768, 800)]
meta_keys = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
# Images are found by their address, in either folder; the two are named so that a missing one is noticed.
folders = dict(img="", train="train2017/", val="val2017/")
val_file = "annotations/lvis_v1_val.json"

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    batch_sampler=dict(type="mmdet.AspectRatioBatchSampler"),
    dataset=dict(
        type="mmengine.ClassBalancedDataset",  # images of classes seen in less than one in a thousand are repeated
        oversample_thr=1e-3,
        dataset=dict(
            type="subpt_dense.LVISDataset",
            split=split,
            group="base",
            data_root=root,
            ann_file="annotations/lvis_v1_train_base.json",
            data_prefix=folders,
            filter_cfg=dict(filter_empty_gt=True, min_size=32),
            pipeline=[
                *load,
                dict(type="mmengine.RandomChoiceResize", scales=scales, resize_type="mmdet.Resize", keep_ratio=True),
                dict(type="mmdet.RandomFlip", prob=0.5),
                dict(type="mmdet.PackDetInputs"),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        type="subpt_dense.LVISDataset",
        split=split,
        group="all",
        data_root=root,
        ann_file=val_file,
        data_prefix=folders,
        test_mode=True,
        pipeline=[
            dict(type="subpt_dense.LoadImage"),
            dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="mmdet.LoadAnnotations", with_bbox=True),
            dict(type="mmdet.PackDetInputs", meta_keys=meta_keys),
        ],
    ),
)
test_dataloader = val_dataloader
score = dict(type="subpt_dense.LVISMetric", ann_file=root + val_file, protocol="lvis-v1-866/337 federated")
val_evaluator = [
    dict(metric="segm", prefix="mask", **score),
    dict(metric="bbox", prefix="box", **score),
]
test_evaluator = val_evaluator

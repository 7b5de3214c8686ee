"""The toy scenes with masks, and in training with cached regions of each; boxes and masks are scored."""

_base_ = "./ovd_toy.py"

root = "data/toy/"
regions = "regions/"
data_help = (
    "Make the toy world with: python -m subpt_dense.toyworld.build --root data/toy. Then train a detector for its "
    "proposals, python tools/train.py configs/ovd_toy_template.py, and make the regions with: "
    "python tools/extract_regions.py --annotations data/toy/annotations/instances_train_seen.json "
    "--images data/toy/train --out data/toy/regions --rpn configs/ovd_toy_template.py "
    "work_dirs/ovd_toy_template/iter_300.pth --model subpt-toy --pretrained data/toy/clip_seed0.pt"
)

train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(regions=regions),
        pipeline=[
            dict(type="subpt_dense.LoadImage", on_error="raise"),
            dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
            dict(type="mmdet.Resize", scale=(128, 128), keep_ratio=True),
            dict(type="mmdet.RandomFlip", prob=0.5),
            dict(type="subpt_dense.PackRegionInputs", folder=root + regions),
        ],
    ),
)
score = dict(
    type="subpt_dense.OVDMetric",
    ann_file=root + "annotations/instances_val_all.json",
    protocol="toy-ovd-48/17 generalised",
)
test_evaluator = [score, dict(metric="segm", prefix="mask", **score)]

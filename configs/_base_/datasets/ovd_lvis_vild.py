"""LVIS v1 with cached regions of each training image, at most 300."""

_base_ = "./ovd_lvis.py"

root = "data/lvis_v1/"
regions = "regions/"
data_help = (
    "Get lvis_v1_train.json.zip and lvis_v1_val.json.zip from lvisdataset.org, unpack them under "
    "data/lvis_v1/annotations, link COCO's train2017 and val2017 into data/lvis_v1, then make the training file with: "
    "python tools/prepare_data.py lvis-ovd --root data/lvis_v1. Then train a detector for its proposals, bash "
    "tools/dist_train.sh configs/ovd_lvis_template.py 8, and make the regions with: torchrun --nproc_per_node=8 "
    "tools/extract_regions.py --launcher pytorch --annotations data/lvis_v1/annotations/lvis_v1_train_base.json "
    "--images data/lvis_v1 --out data/lvis_v1/regions "
    "--rpn configs/ovd_lvis_template.py work_dirs/ovd_lvis_template/epoch_24.pth"
)
scales = [(1333, side) for side in (640, 672, 704, 736, 768, 800)]

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            data_prefix=dict(regions=regions),
            pipeline=[
                dict(type="subpt_dense.LoadImage", on_error="raise"),
                dict(type="mmdet.LoadAnnotations", with_bbox=True, with_mask=True),
                dict(type="mmengine.RandomChoiceResize", scales=scales, resize_type="mmdet.Resize", keep_ratio=True),
                dict(type="mmdet.RandomFlip", prob=0.5),
                dict(type="subpt_dense.PackRegionInputs", folder=root + regions),
            ],
        ),
    ),
)

"""COCO-OVD with cached regions of each training image, at most 300."""

_base_ = "./ovd_coco.py"

root = "data/coco/"
regions = "regions/"
data_help = (
    "Get train2017.zip, val2017.zip and annotations_trainval2017.zip from cocodataset.org and unpack them under "
    "data/coco, then make the split files with: python tools/prepare_data.py coco-ovd --root data/coco. Then train a "
    "detector for its proposals, bash tools/dist_train.sh configs/ovd_coco_template.py 8, and make the regions with: "
    "torchrun --nproc_per_node=8 tools/extract_regions.py --launcher pytorch "
    "--annotations data/coco/annotations/instances_train2017_seen_2.json --images data/coco/train2017 "
    "--out data/coco/regions --rpn configs/ovd_coco_template.py work_dirs/ovd_coco_template/epoch_12.pth"
)

train_dataloader = dict(
    dataset=dict(
        data_prefix=dict(regions=regions),
        pipeline=[
            dict(type="subpt_dense.LoadImage", on_error="raise"),
            dict(type="mmdet.LoadAnnotations", with_bbox=True),
            dict(type="mmdet.Resize", scale=(1333, 800), keep_ratio=True),
            dict(type="mmdet.RandomFlip", prob=0.5),
            dict(type="subpt_dense.PackRegionInputs", folder=root + regions),
        ],
    ),
)

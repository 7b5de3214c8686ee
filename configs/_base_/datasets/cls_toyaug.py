"""The toy world's crops with the paper's augmentation: 4 shots, batches of 32, through the image tower each step."""

_base_ = "./cls_toy.py"

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        _delete_=True,
        type="subpt_dense.ImageSet",
        set="folder",
        data_root="data/toy_cls",
        folders=dict(train="crops/train", val="crops/val", test="crops/test"),
        split="data/toy_cls/split.json",
        part="train",
        group="base",
        shots=4,
        draw=1,
        pipeline=[
            dict(type="subpt_dense.LoadImageRGB"),
            dict(type="subpt_dense.CLIPAugment", size=64),
            dict(type="subpt_dense.PackImage"),
        ],
    ),
)

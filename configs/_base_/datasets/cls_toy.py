"""The toy world's crops, 48 base / 17 novel classes, 2 shots, cached features; base, novel and H after each epoch."""

data_help = "Make the toy crops, in ten seconds, with: python -m subpt_dense.toyworld.crop_world --root data/toy_cls"
split = "data/toy_cls/split.json"
templates = "toy"
names = dict(
    generic=dict(vocabulary="data/toy_cls/names_generic.txt", exclude=split, limit=64),
    heldout=dict(split=split, group="novel"),
)
clip = dict(model="subpt-toy", pretrained="data/toy_cls/clip_seed0.pt")

crops = dict(
    type="subpt_dense.ImageSet",
    set="folder",
    data_root="data/toy_cls",
    folders=dict(train="crops/train", val="crops/val", test="crops/test"),
    split=split,
    pipeline=[
        dict(type="subpt_dense.LoadImageRGB"),
        dict(type="subpt_dense.CLIPCrop", size=64),
        dict(type="subpt_dense.PackImage"),
    ],
)

train_dataloader = dict(
    batch_size=48,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        type="subpt_dense.CachedFeatures",
        image=clip,
        dataset=dict(part="train", group="base", shots=2, draw=1, **crops),
    ),
)
val_dataloader = dict(
    batch_size=1024,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        type="subpt_dense.CachedFeatures",
        image=clip,
        dataset=dict(part="test", group="all", **crops),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.GroupAccuracy", protocol="toy-crops-48/17 base-to-novel")
test_evaluator = val_evaluator

#: What an epoch is chosen by where one is (tools/run_seeds.py): other images, of base classes alone.
selection_dataset = dict(
    type="subpt_dense.CachedFeatures",
    image=clip,
    dataset=dict(part="val", group="base", **crops),
)

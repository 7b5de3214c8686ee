"""The toy scenes' semantic maps: 48 seen classes in training, all 65 in testing.

The six grounds are ignored, like VOC's background: they are no names of the split.
"""

root = "data/toy/"
split = root + "split.json"
data_help = "Make the toy world with: python -m subpt_dense.toyworld.build --root data/toy"

load = [
    dict(type="mmengine.LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="subpt_dense.LoadLabels"),
]
pack = dict(type="mmseg.PackSegInputs")
test_pipeline = [load[0], pack]  # of a picture without labels: what mmseg.apis.inference_model reads
here = dict(
    type="subpt_dense.ZSSegDataset",
    split=split,
    labels=root + "semantic_classes.txt",
    data_root=root,
    img_suffix=".png",
)

train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="mmengine.InfiniteSampler", shuffle=True),
    dataset=dict(
        group="base",
        data_prefix=dict(img_path="train", seg_map_path="semantic/train"),
        pipeline=[*load, dict(type="mmengine.RandomFlip", prob=0.5), pack],
        **here,
    ),
)
val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        group="all",
        data_prefix=dict(img_path="val", seg_map_path="semantic/val"),
        test_mode=True,
        pipeline=[*load, pack],
        **here,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.ZeroShotIoUMetric", protocol="toy-zss-48/17 generalised, grounds ignored")
test_evaluator = val_evaluator

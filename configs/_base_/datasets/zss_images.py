"""What the sets for zero-shot segmentation share: crops of 512 pixels, 4 images on each of 4 GPUs, as ZegCLIP has it.

A set's own file says which, and gives the numbers of its label maps. In training unseen pixels are ignored (255).
"""

load = [
    dict(type="mmengine.LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="subpt_dense.LoadLabels"),
]
pack = dict(type="mmseg.PackSegInputs")
resize = dict(type="mmengine.Resize", scale=(2048, 512), keep_ratio=True)
test_pipeline = [load[0], resize, pack]  # of a picture without labels: what mmseg.apis.inference_model reads

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmengine.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="subpt_dense.ZSSegDataset",
        group="base",
        pipeline=[
            *load,
            dict(
                type="mmengine.RandomResize",
                scale=(2048, 512),
                ratio_range=(0.5, 2.0),
                keep_ratio=True,
                resize_type="mmengine.Resize",
            ),
            dict(type="mmseg.RandomCrop", crop_size=(512, 512), cat_max_ratio=0.75),
            dict(type="mmengine.RandomFlip", prob=0.5),
            dict(type="mmseg.PhotoMetricDistortion"),
            pack,
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(
        type="subpt_dense.ZSSegDataset",
        group="all",
        test_mode=True,
        pipeline=[load[0], resize, load[1], pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.ZeroShotIoUMetric")
test_evaluator = val_evaluator

"""Pascal Context in SAN's crops of 640 pixels, 8 images on each of 4 GPUs (arXiv 2302.12242, section 4.1)."""

_base_ = "./zss_context.py"

load = [
    dict(type="mmengine.LoadImageFromFile", imdecode_backend="pillow"),
    dict(type="subpt_dense.LoadLabels"),
]
pack = dict(type="mmseg.PackSegInputs")
shortest = dict(resize_type="mmseg.ResizeShortestEdge", max_size=2560)
crops = [
    dict(type="mmengine.RandomChoiceResize", scales=[64 * tenth for tenth in range(5, 16)], **shortest),
    dict(type="mmseg.RandomCrop", crop_size=(640, 640), cat_max_ratio=1.0),
    dict(type="mmseg.PhotoMetricDistortion"),
    dict(type="mmengine.RandomFlip", prob=0.5),
]
to_640 = dict(type="mmseg.ResizeShortestEdge", scale=640, max_size=2560)
test_pipeline = [load[0], to_640, pack]

train_dataloader = dict(batch_size=8, dataset=dict(pipeline=[*load, *crops, pack]))
val_dataloader = dict(dataset=dict(pipeline=[load[0], to_640, load[1], pack]))
test_dataloader = val_dataloader

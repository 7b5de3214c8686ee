"""CoCoOp's schedule: 10 epochs of SGD, image by image, the first at 1e-5, then a cosine; tested at the end, once."""

_base_ = "./cls_100e.py"

train_cfg = dict(max_epochs=10, val_interval=10)
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=5e-3, begin=0, end=2),
    dict(type="mmengine.CosineAnnealingLR", T_max=10, begin=1),
]
subspace = dict(explore=3, rank=2)

"""ImageNet, and 1 shot, in CoOp's schedule: 50 epochs of SGD, the first at 1e-5, then a cosine; SubPT explores 15."""

_base_ = "./cls_100e.py"

train_cfg = dict(max_epochs=50)
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=5e-3, begin=0, end=2),
    dict(type="mmengine.CosineAnnealingLR", T_max=50, begin=1),
]
subspace = dict(explore=15)

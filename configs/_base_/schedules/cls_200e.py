"""8 or 16 shots in CoOp's schedule: 200 epochs of SGD, the first at 1e-5, then a cosine; SubPT explores 50 before."""

_base_ = "./cls_100e.py"

train_cfg = dict(max_epochs=200)
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=5e-3, begin=0, end=2),
    dict(type="mmengine.CosineAnnealingLR", T_max=200, begin=1),
]
subspace = dict(explore=50)

"""2 shots of toy crops: 60 epochs of SGD, the first at 1e-5, then a cosine; SubPT explores 12 before."""

_base_ = "./cls_100e.py"

train_cfg = dict(max_epochs=60)
optim_wrapper = dict(optimizer=dict(lr=0.03))
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=1e-5 / 0.03, begin=0, end=2),
    dict(type="mmengine.CosineAnnealingLR", T_max=60, begin=1),
]
default_hooks = dict(checkpoint=dict(interval=20))
subspace = dict(rank=5, explore=12)

"""A trunk that has seen nothing before: what novel classes reach through their words alone."""

_base_ = "./ovd_toy_template.py"

model = dict(backbone=dict(pretrained=None))
train_cfg = dict(max_iters=1000, val_interval=250)
param_scheduler = [
    dict(type="mmengine.LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=50),
    dict(type="mmengine.CosineAnnealingLR", by_epoch=False, begin=50, end=1000, eta_min=1e-5),
]

"""200 iterations of SGD on the words alone; SubPT explores 50 before."""

_base_ = "../runtime_seg.py"

train_cfg = dict(type="mmengine.IterBasedTrainLoop", max_iters=200, val_interval=100)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=1e-5 / 0.01, by_epoch=False, begin=0, end=5),
    dict(type="mmengine.CosineAnnealingLR", by_epoch=False, T_max=200, begin=5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=100))
auto_scale_lr = dict(enable=False, base_batch_size=8)

"""5,000 iterations of SGD on the words alone, CoOp's rate, 4 GPUs with 4 images each; SubPT explores 1,250 before."""

_base_ = "../runtime_seg.py"

train_cfg = dict(type="mmengine.IterBasedTrainLoop", max_iters=5000, val_interval=1000)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=2e-3, momentum=0.9, weight_decay=5e-4))
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=5e-3, by_epoch=False, begin=0, end=50),
    dict(type="mmengine.CosineAnnealingLR", by_epoch=False, T_max=5000, begin=50),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

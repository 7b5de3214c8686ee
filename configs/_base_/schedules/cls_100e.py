"""2 or 4 shots in CoOp's schedule: 100 epochs of SGD, the first at 1e-5, then a cosine; SubPT explores 30 before."""

_base_ = "../runtime_cls.py"

train_cfg = dict(type="subpt_dense.RewindingTrainLoop", max_epochs=100, val_interval=1)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="SGD", lr=2e-3, momentum=0.9, weight_decay=5e-4),
)
param_scheduler = [
    dict(type="mmengine.ConstantLR", factor=5e-3, begin=0, end=2),  # mmengine: it ends one epoch before `end`
    dict(type="mmengine.CosineAnnealingLR", T_max=100, begin=1),
]
#: Shots: epochs, explored, rank. 1: 50, 10, 5. 2: 100, 20, 10. 4: 100, 30, 10. 8: 200, 40, 10. 16: 200, 50, 10.
subspace = dict(type="subpt_dense.SubspaceHook", rank=10, explore=30, by_epoch=True, rewind="run")

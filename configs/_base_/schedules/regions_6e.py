"""DetPro's schedule: 6 epochs of plain SGD on cached regions, a cosine without warm-up; SubPT explores 2 before."""

_base_ = "../runtime_cls.py"

train_cfg = dict(type="subpt_dense.RewindingTrainLoop", max_epochs=6, val_interval=1)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="SGD", lr=2e-3),  # the official release: no momentum, no weight decay
)
param_scheduler = [dict(type="mmengine.CosineAnnealingLR", T_max=6)]
default_hooks = dict(checkpoint=dict(interval=1))
#: So few epochs are not enough snapshots: one is taken every hundredth of the run, about 33 in two epochs.
subspace = dict(type="subpt_dense.SubspaceHook", rank=10, explore=1 / 3, interval=0.01, rewind="run")

"""12 epochs of SGD on 8 GPUs with 2 images each; `--auto-scale-lr` for another number of them."""

_base_ = "../runtime_det.py"

train_cfg = dict(type="mmengine.EpochBasedTrainLoop", max_epochs=12, val_interval=1)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=10.0),
    # The context learns at CoOp's own rate, 0.002.
    paramwise_cfg=dict(custom_keys={"prompt": dict(lr_mult=0.1)}),
)
param_scheduler = [
    dict(type="mmengine.LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="mmengine.MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

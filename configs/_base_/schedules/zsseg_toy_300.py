"""300 iterations of AdamW for the toy two-stage segmentor."""

_base_ = "../runtime_seg.py"

train_cfg = dict(type="mmengine.IterBasedTrainLoop", max_iters=300, val_interval=300)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=1e-4),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={key: dict(decay_mult=0.0) for key in ("query_embed", "prompt")}
    ),
)
param_scheduler = [
    dict(type="mmengine.LinearLR", start_factor=0.05, by_epoch=False, begin=0, end=30),
    dict(type="mmengine.CosineAnnealingLR", by_epoch=False, begin=30, end=300, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=300))
auto_scale_lr = dict(enable=False, base_batch_size=8)

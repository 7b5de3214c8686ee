"""SAN's 60,000 iterations of AdamW (arXiv 2302.12242, section 4.1): 32 images, 8 on each of 4 GPUs."""

_base_ = "../runtime_seg.py"

train_cfg = dict(type="mmengine.IterBasedTrainLoop", max_iters=60000, val_interval=5000)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        # As SAN's own code: its fusion's norms are no nn.LayerNorm there either, and decay.
        norm_decay_mult=0.0,
        custom_keys={key: dict(decay_mult=0.0) for key in ("pos_embed", "query_embed", "prompt")},
    ),
)
param_scheduler = [dict(type="mmengine.PolyLR", power=1.0, eta_min=0.0, begin=0, end=60000, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=5000))
auto_scale_lr = dict(enable=False, base_batch_size=32)

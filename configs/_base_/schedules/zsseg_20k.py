"""zsseg's AdamW on VOC (arXiv 2112.14757): 20,000 iterations of 16 images, 4 on each of 4 GPUs."""

_base_ = "../runtime_seg.py"

train_cfg = dict(type="mmengine.IterBasedTrainLoop", max_iters=20000, val_interval=5000)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(
    type="mmengine.OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-4, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.01),
    paramwise_cfg=dict(
        # As MaskFormer's own code: no decay on norms and embeddings.
        norm_decay_mult=0.0,
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            **{key: dict(decay_mult=0.0) for key in ("query_embed", "prompt")},
            # A key keeps `norm_decay_mult` away, and the longest one counts: the backbone's norms need longer ones.
            **{
                f"{norm}.{kind}": dict(lr_mult=0.1, decay_mult=0.0)
                for norm in (".bn1", ".bn2", ".bn3", "stem.1", "stem.4", "stem.7", "downsample.1")
                for kind in ("weight", "bias")
            },
        },
    ),
)
param_scheduler = [dict(type="mmengine.PolyLR", power=0.9, eta_min=0.0, begin=0, end=20000, by_epoch=False)]
default_hooks = dict(checkpoint=dict(interval=5000))
auto_scale_lr = dict(enable=False, base_batch_size=16)

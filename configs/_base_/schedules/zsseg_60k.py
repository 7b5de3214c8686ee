"""zsseg's AdamW on COCO-Stuff (arXiv 2112.14757): 60,000 iterations of 32 images, 4 on each of 8 GPUs."""

_base_ = "./zsseg_20k.py"

train_cfg = dict(max_iters=60000)
param_scheduler = [dict(type="mmengine.PolyLR", power=0.9, eta_min=0.0, begin=0, end=60000, by_epoch=False)]
auto_scale_lr = dict(base_batch_size=32)

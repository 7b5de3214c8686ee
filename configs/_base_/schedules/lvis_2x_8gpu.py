"""24 epochs of LVIS, with repeat factors, on 8 GPUs with 2 images each; `--auto-scale-lr` for another number.

ViLD's own schedule is 180,000 steps of 256 images with large-scale jittering, about 460 epochs: out of reach here.
"""

_base_ = "./coco_1x_8gpu.py"

train_cfg = dict(max_epochs=24, val_interval=24)  # a validation, 19,809 images with 1203 classes, takes hours
param_scheduler = [
    dict(type="mmengine.LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="mmengine.MultiStepLR", begin=0, end=24, by_epoch=True, milestones=[16, 22], gamma=0.1),
]

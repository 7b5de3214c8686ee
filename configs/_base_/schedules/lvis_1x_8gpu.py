"""12 epochs of LVIS, with repeat factors, on 8 GPUs with 2 images each; `--auto-scale-lr` for another number."""

_base_ = "./coco_1x_8gpu.py"

train_cfg = dict(val_interval=12)  # 19,809 images with 1203 classes take hours

"""The toy scenes as the tiny CLIP's frozen maps, encoded once: nothing flips, and a step needs no image tower."""

_base_ = "./zss_toy.py"

maps = dict(
    type="subpt_dense.CachedMaps",
    backbone=dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt"),
    preprocessor=dict(mean=[127.5] * 3, std=[63.75] * 3, bgr_to_rgb=True, size_divisor=8),
)
train_data = _base_.train_dataloader.dataset
train_data.pipeline = [*_base_.load, _base_.pack]
train_dataloader = dict(dataset=dict(_delete_=True, dataset=train_data, **maps))
val_dataloader = dict(dataset=dict(_delete_=True, dataset=_base_.val_dataloader.dataset, **maps))
test_dataloader = val_dataloader

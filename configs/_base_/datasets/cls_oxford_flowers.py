"""Flowers102: 51 base and 51 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="oxford_flowers", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="oxford_flowers base-to-novel")
test_evaluator = val_evaluator

templates = ["a photo of a {}, a type of flower."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

"""ImageNet: 500 base and 500 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="imagenet", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="imagenet base-to-novel")
test_evaluator = val_evaluator

templates = ["a photo of a {}."]
# The generic vocabulary is ImageNet's own: without the evaluated names nothing would be left of it.
names = dict(
    heldout=dict(split=here, group="novel"),
)

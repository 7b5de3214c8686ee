"""SUN397: 199 base and 198 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="sun397", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="sun397 base-to-novel")
test_evaluator = val_evaluator

templates = ["a photo of a {}."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

"""Food101: 51 base and 50 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="food101", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="food101 base-to-novel")
test_evaluator = val_evaluator

templates = ["a photo of {}, a type of food."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

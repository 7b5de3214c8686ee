"""DTD: 24 base and 23 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="dtd", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="dtd base-to-novel")
test_evaluator = val_evaluator

templates = ["{} texture."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

"""EuroSAT: 5 base and 5 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="eurosat", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="eurosat base-to-novel")
test_evaluator = val_evaluator

templates = ["a centered satellite photo of {}."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

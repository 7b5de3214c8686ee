"""ImageNet, all 1000 classes with 4 shots: no class is novel, and `all` is the accuracy."""

_base_ = "./cls_imagenet.py"

whole = dict(group="all", split="whole")
train_dataloader = dict(dataset=whole)
val_dataloader = dict(dataset=dict(dataset=whole))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="imagenet few-shot")
test_evaluator = val_evaluator

names = dict(_delete_=True)  # no name is held out, and the generic vocabulary is ImageNet's own

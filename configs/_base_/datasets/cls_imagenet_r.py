"""ImageNet-R: renditions of 200 of ImageNet's classes. For testing only."""

_base_ = "./cls_images.py"

here = dict(set="imagenet_r", data_root="data")
train_dataloader = None
val_dataloader = dict(dataset=dict(dataset=dict(split="whole", **here)))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="imagenet_r domain generalisation")
test_evaluator = val_evaluator

templates = ["a photo of a {}."]

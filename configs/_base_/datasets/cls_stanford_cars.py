"""StanfordCars: 98 base and 98 novel classes."""

_base_ = "./cls_images.py"

here = dict(set="stanford_cars", data_root="data")
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=dict(dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="stanford_cars base-to-novel")
test_evaluator = val_evaluator

templates = ["a photo of a {}."]
names = dict(
    generic=dict(vocabulary="imagenet", exclude=here),
    heldout=dict(split=here, group="novel"),
)

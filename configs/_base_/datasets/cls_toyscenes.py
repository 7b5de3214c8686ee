"""Crops of the toy scenes' own classes, 4 shots, as cached features: what is learned here fits the toy detectors."""

_base_ = "./cls_toy.py"

data_help = "Make the toy world, in about a minute, with: python -m subpt_dense.toyworld.build --root data/toy"
split = "data/toy/split.json"
names = dict(
    generic=dict(vocabulary="data/toy/names_generic.txt", exclude=split, limit=64),
    heldout=dict(split=split, group="novel"),
)
clip = dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")
here = dict(data_root="data/toy", split=split, folders=dict(_delete_=True, train="crops/train", test="crops/val"))

train_dataloader = dict(dataset=dict(image=clip, dataset=dict(shots=4, **here)))
val_dataloader = dict(dataset=dict(image=clip, dataset=here))
test_dataloader = val_dataloader
val_evaluator = dict(protocol="toy-scenes-crops-48/17 base-to-novel")
test_evaluator = val_evaluator

#: What an epoch is chosen by where one is: training images that the draw left over.
selection_dataset = dict(image=clip, dataset=dict(shots=4, draw=1, **here))

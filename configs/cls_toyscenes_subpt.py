_base_ = [
    "./_base_/classifiers/clip_toy.py",
    "./_base_/datasets/cls_toyscenes.py",
    "./_base_/schedules/cls_toy_60e.py",
    "./_base_/prompts/subpt.py",
]
language = dict(text={{_base_.clip}}, templates={{_base_.templates}}, names={{_base_.names}})
model = dict(prompt={{_base_.prompt}}, language=language)
custom_hooks = [{{_base_.subspace}}]

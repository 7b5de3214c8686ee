_base_ = [
    "./_base_/classifiers/clip_b16.py",
    "./_base_/datasets/cls_dtd.py",
    "./_base_/schedules/cls_100e.py",
    "./_base_/prompts/subpt_nfl_heldout.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))
custom_hooks = [{{_base_.subspace}}]

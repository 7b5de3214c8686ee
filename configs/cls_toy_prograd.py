_base_ = [
    "./_base_/classifiers/clip_toy.py",
    "./_base_/datasets/cls_toy.py",
    "./_base_/schedules/cls_toy_60e.py",
    "./_base_/prompts/prograd.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))
zero_shot = dict(type="subpt_dense.ZeroShotKL", templates={{_base_.templates}})
custom_hooks = [dict(type="subpt_dense.ConflictHook", reference=zero_shot)]

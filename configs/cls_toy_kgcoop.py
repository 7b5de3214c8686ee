_base_ = [
    "./_base_/classifiers/clip_toy.py",
    "./_base_/datasets/cls_toy.py",
    "./_base_/schedules/cls_toy_60e.py",
    "./_base_/prompts/kgcoop.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates="single", names={{_base_.names}}))

_base_ = [
    "./_base_/classifiers/clip_b16.py",
    "./_base_/datasets/cls_imagenet_whole.py",
    "./_base_/schedules/cls_50e.py",
    "./_base_/prompts/kgcoop.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}))

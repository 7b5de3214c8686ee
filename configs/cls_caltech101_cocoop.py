_base_ = [
    "./_base_/classifiers/clip_b16.py",
    "./_base_/datasets/cls_caltech101.py",
    "./_base_/schedules/cls_10e.py",
    "./_base_/prompts/cocoop.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))
train_dataloader = dict(batch_size=1)

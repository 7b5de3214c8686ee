_base_ = [
    "./_base_/classifiers/clip_toy.py",
    "./_base_/datasets/cls_toy.py",
    "./_base_/schedules/cls_toy_60e.py",
    "./_base_/prompts/nfl.py",
]
prompt = _base_.prompt
prompt.anchors[0].weight = 4.0
model = dict(prompt=prompt, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))

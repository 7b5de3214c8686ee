_base_ = [
    "./_base_/classifiers/clip_b16.py",
    "./_base_/datasets/cls_fgvc_aircraft.py",
    "./_base_/schedules/cls_100e.py",
    "./_base_/prompts/template.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}, names={{_base_.names}}))
# Nothing is learned: test only.
train_cfg = train_dataloader = optim_wrapper = param_scheduler = None

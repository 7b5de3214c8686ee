_base_ = [
    "./_base_/classifiers/clip_b16.py",
    "./_base_/datasets/cls_imagenet_r.py",
    "./_base_/schedules/cls_50e.py",
    "./_base_/prompts/template.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(templates={{_base_.templates}}))
# Nothing is learned: test only, with this prompt or, by tools/transfer.py, with one learned elsewhere.
train_cfg = train_dataloader = optim_wrapper = param_scheduler = None

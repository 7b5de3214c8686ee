_base_ = [
    "./_base_/segmentors/clip_b16.py",
    "./_base_/datasets/zss_context60.py",
    "./_base_/schedules/zss_5k_4gpu.py",
    "./_base_/prompts/template.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(names={{_base_.names}}))
# Nothing is learned: test only.
train_cfg = train_dataloader = optim_wrapper = param_scheduler = None

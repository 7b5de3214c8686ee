_base_ = [
    "./_base_/segmentors/clip_b16.py",
    "./_base_/datasets/zss_context60.py",
    "./_base_/schedules/zss_5k_4gpu.py",
    "./_base_/prompts/subpt_nfl.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(names={{_base_.names}}))

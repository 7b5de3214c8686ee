_base_ = [
    "./_base_/segmentors/san_b16.py",
    "./_base_/datasets/zss_cocostuff_san.py",
    "./_base_/schedules/san_60k.py",
    "./_base_/prompts/coop.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(names={{_base_.names}}))

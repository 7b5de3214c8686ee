_base_ = [
    "./_base_/segmentors/two_stage_toy.py",
    "./_base_/datasets/zss_toy.py",
    "./_base_/schedules/zsseg_toy_300.py",
    "./_base_/prompts/coop.py",
]
model = dict(prompt={{_base_.prompt}})

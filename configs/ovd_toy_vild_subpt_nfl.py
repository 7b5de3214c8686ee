_base_ = [
    "./_base_/detectors/vild_toy.py",
    "./_base_/datasets/ovd_toy_vild.py",
    "./_base_/schedules/toy_300.py",
    "./_base_/prompts/subpt_nfl.py",
]
model = dict(prompt={{_base_.prompt}})

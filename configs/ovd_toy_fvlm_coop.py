_base_ = [
    "./_base_/detectors/fvlm_toy.py",
    "./_base_/datasets/ovd_toy.py",
    "./_base_/schedules/toy_300.py",
    "./_base_/prompts/coop.py",
]
model = dict(prompt={{_base_.prompt}})

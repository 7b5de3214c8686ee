_base_ = [
    "./_base_/detectors/fvlm_mask_r50.py",
    "./_base_/datasets/ovd_lvis.py",
    "./_base_/schedules/lvis_2x_8gpu.py",
    "./_base_/prompts/subpt.py",
]
model = dict(prompt={{_base_.prompt}})

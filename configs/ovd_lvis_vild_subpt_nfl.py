_base_ = [
    "./_base_/detectors/vild_mask_r50_fpn.py",
    "./_base_/datasets/ovd_lvis_vild.py",
    "./_base_/schedules/lvis_2x_8gpu.py",
    "./_base_/prompts/subpt_nfl.py",
]
model = dict(prompt={{_base_.prompt}})

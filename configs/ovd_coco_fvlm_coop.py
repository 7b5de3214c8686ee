_base_ = [
    "./_base_/detectors/fvlm_r50.py",
    "./_base_/datasets/ovd_coco.py",
    "./_base_/schedules/coco_1x_8gpu.py",
    "./_base_/prompts/coop.py",
]
model = dict(prompt={{_base_.prompt}})

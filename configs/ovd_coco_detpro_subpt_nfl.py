_base_ = [
    "./_base_/detectors/ovd_r50_fpn.py",
    "./_base_/datasets/ovd_coco.py",
    "./_base_/schedules/coco_1x_8gpu.py",
    "./_base_/prompts/detpro_coco.py",
]
model = dict(prompt={{_base_.prompt}})

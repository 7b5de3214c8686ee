_base_ = [
    "./_base_/detectors/vild_r50_fpn.py",
    "./_base_/datasets/ovd_coco_vild.py",
    "./_base_/schedules/coco_1x_8gpu.py",
    "./_base_/prompts/coop.py",
]
model = dict(prompt={{_base_.prompt}})

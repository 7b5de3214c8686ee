_base_ = [
    "./_base_/segmentors/san_b16.py",
    "./_base_/datasets/zss_voc_san.py",
    "./_base_/schedules/san_60k.py",
    "./_base_/prompts/subpt_nfl_heldout.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(names={{_base_.names}}))

_base_ = [
    "./_base_/segmentors/two_stage_r101.py",
    "./_base_/datasets/zss_context.py",
    "./_base_/schedules/zsseg_20k.py",
    "./_base_/prompts/subpt_nfl_heldout.py",
]
model = dict(prompt={{_base_.prompt}}, language=dict(names={{_base_.names}}))

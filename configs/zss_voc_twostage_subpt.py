_base_ = [
    "./_base_/segmentors/two_stage_r101.py",
    "./_base_/datasets/zss_voc.py",
    "./_base_/schedules/zsseg_20k.py",
    "./_base_/prompts/subpt.py",
]
model = dict(
    prompt={{_base_.prompt}},
    language=dict(names={{_base_.names}}),
    decode_head=dict(seen_weight=0.3, unseen_weight=0.7),
)

"""F-VLM on the tiny CLIP's own image trunk, frozen (stride 8, one level).

The fusion has the paper's weights. They do not pay here: the tiny CLIP knows tight boxes less well than the trained
head does (template rows, 300 iterations, seed 0: base / novel AP50 87.8 / 79.9 with the fusion, 90.8 / 90.4 without).
"""

_base_ = "./ovd_toy.py"

frozen = dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")

model = dict(
    type="subpt_dense.FVLMDetector",
    backbone=dict(_delete_=True, type="subpt_dense.FrozenCLIPBackbone", out_indices=[-1], **frozen),
    neck=dict(type="mmdet.FPN", in_channels=[128], out_channels=128, num_outs=1),
    roi_head=dict(
        type="subpt_dense.FVLMRoIHead",
        # The scale the tiny CLIPs were trained to (31); they have never read the word "background".
        fusion=dict(type="subpt_dense.VLMFusion", embed_dim=64, temperature=0.032, background=False),
    ),
)

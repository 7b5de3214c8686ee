"""ViLD in the toy world: the toy detector with masks, an image branch and its distillation."""

_base_ = "./ovd_toy_mask.py"

model = dict(
    roi_head=dict(
        type="subpt_dense.ViLDRoIHead",
        mode="ensemble",  # or "text", "image": the same checkpoint serves all three
        image_branch=dict(
            type="subpt_dense.ImageBranch", in_channels=128, fc_channels=256, embed_dim=64, temperature=0.04
        ),
        distillation=dict(type="subpt_dense.RegionDistillation", weight=0.5),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.01)),  # what the text branch gives to the background, no class has
)

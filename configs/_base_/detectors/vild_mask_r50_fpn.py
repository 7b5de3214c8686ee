"""ViLD on LVIS: the Mask R-CNN of ViLD-text, an image branch and its distillation."""

_base_ = "./ovd_mask_r50_fpn.py"

model = dict(
    roi_head=dict(
        type="subpt_dense.ViLDRoIHead",
        mode="ensemble",  # or "text", "image": the same checkpoint serves all three
        image_branch=dict(type="subpt_dense.ImageBranch", in_channels=256, embed_dim=512, temperature=0.01),
        distillation=dict(type="subpt_dense.RegionDistillation", weight=0.5),
    ),
)

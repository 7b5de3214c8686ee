"""F-VLM at the size of its best published figures: the frozen trunk of CLIP RN50x64, regions pooled at 14 x 14."""

_base_ = "./fvlm_mask_r50.py"

clip = dict(model="RN50x64-quickgelu", pretrained="openai")

model = dict(
    language=dict(text=clip),
    backbone=dict(**clip),
    neck=dict(in_channels=[512, 1024, 2048, 4096]),
)

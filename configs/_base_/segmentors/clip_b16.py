"""CLIP ViT-B/16's frozen dense features, its last block as in ClearCLIP, classified by text rows; only the words are
learned. Windows as in ZegCLIP.

MaskCLIP: `attention="value"`. SCLIP: `attention="csa", residual=True, mlp=True`. CLIP's own tokens: none of the three.
"""

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")

model = dict(
    type="subpt_dense.OVSegmentor",
    language=dict(text=clip, templates="imagenet80"),
    # CLIP's own mean and deviation, in 0..255
    data_preprocessor=dict(
        type="subpt_dense.DensePreProcessor",
        mean=[122.7709383, 116.7460125, 104.09373615],
        std=[68.5005327, 66.6321579, 70.32316305],
        bgr_to_rgb=True,
        size_divisor=16,
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(type="subpt_dense.DenseCLIPBackbone", attention="qq", residual=False, mlp=False, **clip),
    decode_head=dict(type="subpt_dense.DenseCLIPHead", embed_dim=512),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(426, 426), batch=4),
)

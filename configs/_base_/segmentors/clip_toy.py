"""The tiny CLIP's frozen dense features (stride 8), classified by text rows; only the words are learned."""

clip = dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")

model = dict(
    type="subpt_dense.OVSegmentor",
    language=dict(
        text=clip,
        templates="toy",
        names=dict(
            generic=dict(vocabulary="data/toy/names_generic.txt", exclude="data/toy/split.json", limit=64),
            heldout=dict(split="data/toy/split.json", group="novel"),
        ),
    ),
    data_preprocessor=dict(
        type="subpt_dense.DensePreProcessor",
        mean=[127.5] * 3,
        std=[63.75] * 3,
        bgr_to_rgb=True,
        size_divisor=8,
        test_cfg=dict(size_divisor=8),
    ),
    backbone=dict(type="subpt_dense.DenseCLIPBackbone", **clip),
    decode_head=dict(type="subpt_dense.DenseCLIPHead", embed_dim=64),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

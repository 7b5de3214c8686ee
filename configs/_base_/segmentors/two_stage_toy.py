"""The two stages on the tiny CLIP: a small MaskFormer on its frozen map (stride 8), its image tower for the regions."""

_base_ = "./two_stage_r101.py"

clip = dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")
attention = dict(embed_dims=64, num_heads=4, attn_drop=0.0, proj_drop=0.0)

model = dict(
    language=dict(
        text=clip,
        templates="toy",
        names=dict(
            generic=dict(vocabulary="data/toy/names_generic.txt", exclude="data/toy/split.json", limit=64),
            heldout=dict(split="data/toy/split.json", group="novel"),
        ),
    ),
    data_preprocessor=dict(
        mean=[127.5] * 3,
        std=[63.75] * 3,
        size=None,
        size_divisor=8,
        test_cfg=dict(size_divisor=8),
    ),
    backbone=dict(backbone=dict(_delete_=True, type="subpt_dense.DenseCLIPBackbone", **clip)),
    decode_head=dict(
        embed_dim=64,
        regions=dict(_delete_=True, **clip),  # which wants what the data preprocessor gives
        temperature=0.032,  # one over the scale that the tiny CLIPs were trained to
        hidden_dim=128,
        in_channels=[64],
        feat_channels=64,
        out_channels=64,
        num_queries=20,
        positional_encoding=dict(num_feats=32),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=64, feedforward_channels=128, ffn_drop=0.0),
            ),
        ),
    ),
)

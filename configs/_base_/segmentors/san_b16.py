"""SAN on CLIP ViT-B/16 (arXiv 2302.12242): mmseg's own, with the prompt's rows where it keeps a text encoder.

`decode_head.ignore_unlabelled=True` keeps unseen pixels out of the mask losses; as published they are in none.
"""

_base_ = "mmseg::_base_/models/san_vit-b16.py"

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
data_preprocessor = dict(type="mmseg.SegDataPreProcessor")

model = dict(
    type="subpt_dense.OVMultimodalSegmentor",
    language=dict(text=clip, templates="imagenet80"),  # SAN's own code names classes by ViLD's templates
    pretrained=dict(_delete_=True, **clip),
    data_preprocessor=data_preprocessor,
    image_encoder=dict(type="mmseg.VisionTransformer", act_cfg=dict(type="mmseg.QuickGELU")),
    text_encoder=dict(_delete_=True, type="subpt_dense.RowsTextEncoder", embed_dim=512, text=clip),
    decode_head=dict(
        type="subpt_dense.OVSideAdapterHead",
        ignore_unlabelled=False,
        maskgen_cfg=dict(act_cfg=dict(type="mmseg.QuickGELU")),
        train_cfg=dict(
            assigner=dict(
                type="mmseg.HungarianAssigner",
                match_costs=[
                    dict(type="mmseg.ClassificationCost", weight=2.0),
                    dict(type="mmseg.CrossEntropyLossCost", weight=5.0, use_sigmoid=True),
                    dict(type="mmseg.DiceCost", weight=5.0, pred_act=True, eps=1.0),
                ],
            )
        ),
        loss_decode=[
            dict(
                type="mmseg.CrossEntropyLoss",
                loss_name="loss_cls_ce",
                loss_weight=2.0,
                class_weight=[1.0] * 171 + [0.1],  # follows the vocabulary
            ),
            dict(type="mmseg.CrossEntropyLoss", use_sigmoid=True, loss_name="loss_mask_ce", loss_weight=5.0),
            dict(
                type="mmseg.DiceLoss",
                ignore_index=None,
                naive_dice=True,
                eps=1,
                loss_name="loss_mask_dice",
                loss_weight=5.0,
            ),
        ],
    ),
)

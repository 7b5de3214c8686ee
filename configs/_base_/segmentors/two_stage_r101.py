"""zsseg's two stages (arXiv 2112.14757): MaskFormer on ResNet-101c proposes masks, CLIP ViT-B/16 sees their regions.

`decode_head.ignore_unlabelled=True` keeps unseen pixels out of the mask losses; as published they are in none.
"""

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]  # ImageNet's, for the ResNet
attention = dict(embed_dims=256, num_heads=8, attn_drop=0.1, proj_drop=0.1, batch_first=True)

model = dict(
    type="subpt_dense.OVSegmentor",
    language=dict(text=clip, templates="imagenet80"),
    data_preprocessor=dict(
        type="mmseg.SegDataPreProcessor",
        mean=mean,
        std=std,
        bgr_to_rgb=True,
        size=(512, 512),  # the crops' size; zsseg trains and tests at 640 on COCO-Stuff, these configs at 512
        seg_pad_val=255,
        test_cfg=dict(size_divisor=32),
    ),
    backbone=dict(
        type="subpt_dense.BackboneWithImages",
        backbone=dict(
            type="mmseg.ResNetV1c",
            depth=101,
            norm_cfg=dict(type="mmengine.SyncBN"),
            norm_eval=True,
            pretrained="open-mmlab://resnet101_v1c",
        ),
    ),
    decode_head=dict(
        type="subpt_dense.ProposalCLIPHead",
        embed_dim=512,
        regions=dict(mean=mean, std=std, threshold=0.5, batch=32, **clip),
        seen_weight=0.2,
        unseen_weight=0.8,
        ignore_unlabelled=False,
        num_classes=2,  # follows the vocabulary
        in_channels=[256, 512, 1024, 2048],
        feat_channels=256,
        out_channels=256,
        num_queries=100,
        pixel_decoder=dict(type="mmdet.PixelDecoder", norm_cfg=dict(type="mmengine.GN", num_groups=32)),
        positional_encoding=dict(num_feats=128, normalize=True),
        transformer_decoder=dict(
            return_intermediate=True,
            num_layers=6,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, num_fcs=2, ffn_drop=0.1),
            ),
        ),
        loss_cls=dict(type="mmdet.CrossEntropyLoss", class_weight=[1.0, 1.0, 0.1]),
        loss_mask=dict(type="mmdet.FocalLoss", gamma=2.0, alpha=0.25, loss_weight=20.0),
        loss_dice=dict(type="mmdet.DiceLoss", naive_dice=True, eps=1.0, loss_weight=1.0),
        train_cfg=dict(
            assigner=dict(
                type="mmdet.HungarianAssigner",
                match_costs=[
                    dict(type="mmdet.ClassificationCost", weight=1.0),
                    dict(type="mmdet.FocalLossCost", weight=20.0, binary_input=True),
                    dict(type="mmdet.DiceCost", weight=1.0, pred_act=True, eps=1.0),
                ],
            ),
            sampler=dict(type="mmdet.MaskPseudoSampler"),
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

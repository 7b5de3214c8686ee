"""What the 11 sets share: base classes with 4 shots, augmented as in CoOp; base, novel and H on the test images.

A set's own file says which, and gives `templates` and `names` for the model's `language`. `clip` is the classifier's:
test images pass its tower once, and their features are kept.
"""

data_help = "`python tools/check_data.py --root data` says what is there; data/README.md has the layout."
clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=True),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        type="subpt_dense.ImageSet",
        data_root="data",
        part="train",
        group="base",
        shots=4,
        draw=1,
        pipeline=[
            dict(type="subpt_dense.LoadImageRGB"),
            dict(type="subpt_dense.CLIPAugment", size=224),
            dict(type="subpt_dense.PackImage"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1024,
    num_workers=0,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmengine.default_collate"),
    dataset=dict(
        type="subpt_dense.CachedFeatures",
        image=clip,
        num_workers=4,
        dataset=dict(
            type="subpt_dense.ImageSet",
            data_root="data",
            part="test",
            group="all",
            pipeline=[
                dict(type="subpt_dense.LoadImageRGB"),
                dict(type="subpt_dense.CLIPCrop", size=224),
                dict(type="subpt_dense.PackImage"),
            ],
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.GroupAccuracy")
test_evaluator = val_evaluator

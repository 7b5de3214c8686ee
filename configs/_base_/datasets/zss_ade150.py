"""ADE20K's 150 classes: for testing only. The first of each class's words is its name."""

_base_ = "./zss_images.py"

data_help = (
    "Get ADEChallengeData2016.zip, see data/README.md, and unpack it under data/ade: "
    "python tools/check_data.py ade150 says what is there."
)
train_dataloader = None
val_dataloader = dict(
    dataset=dict(
        split="ade150",
        data_root="data/ade/ADEChallengeData2016/",
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        reduce_zero_label=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="ade20k-150 transfer")
test_evaluator = val_evaluator

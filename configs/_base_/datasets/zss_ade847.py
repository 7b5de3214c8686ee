"""ADE20K's 847 classes: for testing only. The maps have 16 bits, so that 255 is a class and 65535 ignored."""

_base_ = "./zss_images.py"

data_help = (
    "Get the full ADE20K and make its maps with the script of MaskFormer that data/README.md names: "
    "python tools/check_data.py ade847 says what is there."
)
train_dataloader = None
val_dataloader = dict(
    dataset=dict(
        split="ade847",
        data_root="data/ADE20K_2021_17_01/",
        data_prefix=dict(img_path="images_detectron2/validation", seg_map_path="annotations_detectron2/validation"),
        seg_map_suffix=".tif",
        ignore_index=65535,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="ade20k-847 transfer", ignore_index=65535)
test_evaluator = val_evaluator

"""VOC 2007 test, for transfer: 20 names in place of those trained on, AP50; see tools/transfer.py."""

_base_ = "./ovd_transfer.py"

root = "data/VOCdevkit/VOC2007/"
ann_file = "voc07_test.json"
data_help = (
    "Get VOCtest_06-Nov-2007.tar from host.robots.ox.ac.uk/pascal/VOC/voc2007 and unpack it under data, then make "
    "the annotation file with: python tools/prepare_data.py voc07 --root data/VOCdevkit/VOC2007"
)

test_dataloader = dict(
    dataset=dict(split="voc07", data_root=root, ann_file=ann_file, data_prefix=dict(img="JPEGImages/")),
)
test_evaluator = dict(ann_file=root + ann_file, protocol="voc07-test transfer, difficult objects left out")

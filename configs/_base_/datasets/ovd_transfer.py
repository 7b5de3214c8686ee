"""What the sets for transfer share. They have no pipeline: images are prepared as in the detector's own test."""

test_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="mmengine.DefaultSampler", shuffle=False),
    dataset=dict(type="subpt_dense.OVCocoDataset", group="all", test_mode=True),
)
test_evaluator = dict(type="subpt_dense.OVDMetric")

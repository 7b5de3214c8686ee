"""Pascal Context as published: 50 seen classes, the background one of them, and 10 unseen (ZS3Net's split).

Without the background: `zss_context.py`. The label maps are the same.
"""

_base_ = "./zss_context.py"

here = dict(split="context60_zss", reduce_zero_label=False)
train_dataloader = dict(dataset=here)
val_dataloader = dict(dataset=here)
test_dataloader = val_dataloader
val_evaluator = dict(protocol="context-50/10 generalised, background a class")
test_evaluator = val_evaluator

names = dict(generic=dict(exclude="context60_zss"), heldout=dict(split="context60_zss"))

"""DetPro's schedule in the toy world: hundreds of steps instead of many thousands, hence ten times the rate."""

_base_ = "./regions_6e.py"

optim_wrapper = dict(optimizer=dict(lr=0.02))

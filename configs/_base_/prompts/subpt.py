"""SubPT: CoOp whose updates stay in the subspace of its early trajectory."""

_base_ = "./coop.py"

custom_hooks = [
    # `update` keeps the displacement in the span under AdamW, which `gradient` (SGD, the official rule) would not.
    dict(type="subpt_dense.SubspaceHook", rank=10, explore=0.25, interval=0.01, project="update"),
]

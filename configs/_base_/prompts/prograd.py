"""ProGrad: CoOp without what opposes the zero-shot predictions in its gradients."""

_base_ = "./coop.py"

custom_hooks = [
    # The paper has the data set's own template; a hook sees no `language`, so this is CLIP's default one for all.
    dict(type="subpt_dense.ConflictHook", reference=dict(type="subpt_dense.ZeroShotKL", templates="single")),
]

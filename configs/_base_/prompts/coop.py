"""CoOp: a learned context shared by all classes."""

prompt = dict(type="subpt_dense.ContextPrompt", length=16)

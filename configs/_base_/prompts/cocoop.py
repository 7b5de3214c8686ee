"""CoCoOp: each image shifts the context. A step costs its batch size times CoOp's text part (the paper has batch 1)."""

prompt = dict(type="subpt_dense.ConditionalPrompt", length=4, init_words="a photo of a")

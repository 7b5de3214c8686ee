"""Hand-crafted rows: the mean of CLIP's 80 ImageNet templates, whatever the task's own."""

prompt = dict(type="subpt_dense.TemplatePrompt", templates="imagenet80")

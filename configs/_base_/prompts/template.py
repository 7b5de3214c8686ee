"""Hand-crafted rows: the task's template list; `model.prompt.templates="single"` for one template."""

prompt = dict(type="subpt_dense.TemplatePrompt")

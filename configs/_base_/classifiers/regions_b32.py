"""OpenAI's CLIP ViT-B/32, of which regions were embedded beforehand; background goes to the uniform distribution."""

model = dict(
    type="subpt_dense.PromptedClassifier",
    language=dict(text=dict(model="ViT-B-32-quickgelu", pretrained="openai")),
    loss=dict(type="subpt_dense.SoftBackground"),
)

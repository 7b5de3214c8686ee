"""The toy world's tiny CLIP, of which regions were embedded beforehand; background goes to the uniform distribution."""

model = dict(
    type="subpt_dense.PromptedClassifier",
    language=dict(text=dict(model="subpt-toy", pretrained="data/toy/clip_seed0.pt")),
    loss=dict(type="subpt_dense.SoftBackground"),
)

"""The toy world's tiny CLIP, frozen; the words are learned."""

model = dict(
    type="subpt_dense.PromptedClassifier",
    language=dict(text=dict(model="subpt-toy", pretrained="data/toy_cls/clip_seed0.pt")),
)

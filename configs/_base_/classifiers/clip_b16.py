"""OpenAI's CLIP ViT-B/16, frozen; the words are learned."""

model = dict(
    type="subpt_dense.PromptedClassifier",
    language=dict(text=dict(model="ViT-B-16-quickgelu", pretrained="openai")),
)

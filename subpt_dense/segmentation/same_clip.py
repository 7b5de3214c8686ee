"""Rows and image features must come from one CLIP: of another one their cosines mean nothing."""

from subpt_dense.heads import PromptedModel


def check_clip(model: PromptedModel, part: str, *, backbone: str, text_hash: str) -> None:
    """Compare where a model's rows come from with the CLIP of one of its parts. What the rows do not tell is believed.

    Args:
        model: With its prompt head.
        part: What the part is called in the config.
        backbone: open_clip's name of its CLIP.
        text_hash: SHA-256 of that CLIP's text weights.

    Raises:
        ValueError: If the rows are of another model or other weights.
    """
    wanted = {"backbone": backbone, "weights_hash": text_hash}
    rows = model.prompt.identity()
    if any(rows.get(key) not in (None, value) for key, value in wanted.items()):
        raise ValueError(
            f"`prompt` of {type(model).__name__} must give rows of the CLIP of its `{part}`, {backbone!r} with the "
            f"text weights {text_hash}. Got {rows.get('backbone')!r} with {rows.get('weights_hash')}."
        )

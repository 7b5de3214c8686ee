"""How the last block of a vision transformer is computed when its patches are read one by one."""

from dataclasses import asdict, dataclass

#: What the last block's tokens attend to.
ATTENTIONS = ("vanilla", "value", "qq", "csa")


@dataclass(frozen=True)
class DenseMode:
    """The last block of a vision transformer: ``y = [x +] attention(ln_1(x))``, then ``[y + mlp(ln_2(y))]``.

    Args:
        attention: With q, k and v of the block's own weights and the class token among the tokens. ``"vanilla"``:
            softmax(q kᵀ) v, CLIP's own. ``"value"``: each token keeps its own v. ``"qq"``: softmax(q qᵀ) v.
            ``"csa"``: (softmax(q qᵀ) + softmax(k kᵀ)) v. All are scaled by the root of a head's width, as CLIP's.
        residual: Whether x is added to the attention's output.
        mlp: Whether the block's MLP follows; it keeps a skip connection of its own.

    Raises:
        ValueError: If ``attention`` is another.
    """

    attention: str = "vanilla"
    residual: bool = True
    mlp: bool = True

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise ValueError(
                f"`attention` of DenseMode must be one of {', '.join(map(repr, ATTENTIONS))}. Got {self.attention!r}."
            )

    def to_dict(self) -> dict[str, str | bool]:
        """The three choices, for files and messages."""
        return asdict(self)


#: Published dense CLIPs by name. MaskCLIP is as in the paper (its released ViT code keeps residual and MLP).
PUBLISHED_MODES = {
    "clip": DenseMode("vanilla"),
    "maskclip": DenseMode("value", residual=False, mlp=False),  # arXiv 2112.01071, section 3.2
    "sclip": DenseMode("csa"),  # arXiv 2312.01597, equation 3
    "clearclip": DenseMode("qq", residual=False, mlp=False),  # arXiv 2407.12442, equation 6
}

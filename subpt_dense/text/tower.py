"""CLIP's frozen text tower as a plain object, outside every module tree (L tokens, W text width, D embedding)."""

import copy
import hashlib
import math
from collections.abc import Sequence

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import LayerNorm, LayerNormFp32, TextTransformer
from torch import Tensor, nn

POOL_TYPES = ("argmax", "first", "last")


class TowerModules(nn.Module):
    """The text modules of an open_clip model under CLIP's own names, whichever class they come from.

    Args:
        model: An ``open_clip.CLIP``, or a ``CustomTextCLIP`` whose ``text`` is a ``TextTransformer``.

    Attributes:
        pool_type: Which token is read: ``"argmax"`` (the end of the text, as OpenAI's), ``"first"`` or ``"last"``.
        attn_mask: The causal mask ``[L, L]``, or ``None`` where every token sees every token.

    Raises:
        ValueError: If the text tower has a class token, another mask, or reads anything but one token.
    """

    attn_mask: Tensor | None

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text = getattr(model, "text", model)
        self.pool_type = str(getattr(model, "text_pool_type", None) or getattr(text, "pool_type", None))
        if not isinstance(text, (open_clip.CLIP, TextTransformer)) or getattr(text, "cls_emb", None) is not None:
            raise ValueError(f"The text tower must be CLIP's own, without a class token. Got {type(text).__name__}.")
        if self.pool_type not in POOL_TYPES:
            raise ValueError(
                f"The text tower must read one of its {', '.join(POOL_TYPES)} tokens. Got {self.pool_type!r}."
            )
        self.token_embedding: nn.Embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        if getattr(text, "use_pad_mask", False):
            raise ValueError("The text tower must not mask its padding. Got one that does.")
        self.register_buffer("attn_mask", _checked_mask(text.attn_mask, text.context_length), persistent=False)
        self.requires_grad_(False).eval()

    def weights_hash(self) -> str:
        """SHA-256 over the sorted names, the shapes and the bytes of every weight."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(memoryview(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
        return digest.hexdigest()

    def in_precision(self, dtype: torch.dtype) -> "TowerModules":
        """A copy with linear weights in ``dtype``; embeddings, norms and the projection are never below float32."""
        changed = copy.deepcopy(self)
        if dtype.itemsize < torch.float32.itemsize:
            open_clip.convert_weights_to_lp(changed, dtype=dtype)
            changed.text_projection = copy.deepcopy(self.text_projection)
            _replace_norms(changed, LayerNormFp32)
        else:
            _replace_norms(changed.to(dtype), LayerNorm)
        return changed.requires_grad_(False).eval()


def _checked_mask(mask: Tensor | None, length: int) -> Tensor | None:
    """The tower's mask, which must be the causal one or none."""
    if mask is None:
        return None
    causal = torch.full((length, length), float("-inf")).triu_(1)
    if not torch.equal(mask.float().cpu(), causal):
        raise ValueError("The text tower must be causal, or see all its tokens. Got one with another attention mask.")
    return causal


def _replace_norms(modules: nn.Module, kind: type[nn.LayerNorm]) -> None:
    """``LayerNormFp32`` computes in float32 whatever it is given: open_clip's own low-precision models have it."""
    for parent in list(modules.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.LayerNorm):
                norm = kind(
                    list(child.normalized_shape), eps=child.eps, device=child.weight.device, dtype=child.weight.dtype
                )
                norm.load_state_dict(child.state_dict())
                setattr(parent, name, norm)


class TextTower:
    """A frozen text tower on one device, in one precision. No ``nn.Module``: no host can initialise, move or save it.

    Attributes:
        model: open_clip's name of the model.
        pretrained: The tag or path its weights came from.
        weights_hash: SHA-256 of its float32 weights, whatever the precision here.
        width: W of the token embeddings and of a learned context.
        embed_dim: D of the rows.
        context_length: L, the tokens it reads at most.
        logit_scale: CLIP's learned temperature, exponentiated (100 for OpenAI's).
        dtype: Of the linear weights and the activations.
        wide_dtype: Of contexts, norms, projection and rows: float32, or float64 for a float64 tower.
        cut_at_end: Whether nothing after the end of a text can reach its row (a causal tower read at that token).
        device: Where it lives.
    """

    def __init__(
        self,
        modules: TowerModules,
        *,
        model: str,
        pretrained: str,
        weights_hash: str,
        logit_scale: float,
        tokenizer: SimpleTokenizer,
    ) -> None:
        self.modules = modules
        self.model = model
        self.pretrained = pretrained
        self.weights_hash = weights_hash
        self.logit_scale = logit_scale
        self.tokenizer = tokenizer
        self.token_embedding: nn.Embedding = modules.token_embedding
        self.positional_embedding: Tensor = modules.positional_embedding
        self.transformer: nn.Module = modules.transformer
        self.ln_final: nn.Module = modules.ln_final
        self.text_projection: nn.Parameter | nn.Linear | None = modules.text_projection
        self.attn_mask: Tensor | None = modules.attn_mask
        self.pool_type = modules.pool_type
        self.cut_at_end = self.attn_mask is not None and self.pool_type == "argmax"
        self.context_length, self.width = self.positional_embedding.shape
        self.dtype: torch.dtype = self.transformer.get_cast_dtype()
        self.wide_dtype = torch.promote_types(self.dtype, torch.float32)
        self.device: torch.device = self.positional_embedding.device
        projection = self.text_projection
        if isinstance(projection, nn.Linear):
            self.embed_dim = projection.out_features
        else:
            self.embed_dim = self.width if projection is None else projection.shape[1]

    @classmethod
    def from_open_clip(
        cls, clip: open_clip.CLIP | open_clip.CustomTextCLIP, *, model: str, pretrained: str
    ) -> "TextTower":
        """The text tower of a float32 open_clip model; the image tower is not kept.

        Raises:
            ValueError: If the tower cannot serve (see :class:`TowerModules`), its tokenizer is not CLIP's, or a weight
                is not finite.
        """
        tokenizer = open_clip.get_tokenizer(model)
        if not isinstance(tokenizer, SimpleTokenizer):
            raise ValueError(f"The tokenizer of {model!r} must be CLIP's own. Got {type(tokenizer).__name__}.")
        modules = TowerModules(clip)
        rows = modules.token_embedding.num_embeddings
        if rows < tokenizer.vocab_size:
            raise ValueError(f"{model!r} must embed its tokenizer's {tokenizer.vocab_size} tokens. It embeds {rows}.")
        bad = [name for name, value in modules.state_dict().items() if not torch.isfinite(value).all()]
        if bad:
            raise ValueError(f"The weights {pretrained!r} must be finite. Got NaN or infinity in {', '.join(bad)}.")
        return cls(
            modules,
            model=model,
            pretrained=pretrained,
            weights_hash=modules.weights_hash(),
            logit_scale=math.exp(float(clip.logit_scale.detach())),
            tokenizer=tokenizer,
        )

    def copy_to(self, device: torch.device, dtype: torch.dtype) -> "TextTower":
        """An independent copy on ``device`` in ``dtype``."""
        modules = copy.deepcopy(self.modules) if dtype == self.dtype else self.modules.in_precision(dtype)
        return TextTower(
            modules.to(device),
            model=self.model,
            pretrained=self.pretrained,
            weights_hash=self.weights_hash,
            logit_scale=self.logit_scale,
            tokenizer=self.tokenizer,
        )

    def token_ids(self, text: str) -> list[int]:
        """Token ids of a text without the start and end tokens.

        Raises:
            ValueError: If the text spells a special token, which would end the prompt early.
        """
        ids = self.tokenizer.encode(text)
        if {self.tokenizer.sot_token_id, self.tokenizer.eot_token_id} & set(ids):
            raise ValueError(f"A text must not spell CLIP's start or end token. Got {text!r}.")
        return ids

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """``[SOS] text [EOT]`` and zeros, as open_clip's tokenizer has it, but never cut short.

        Args:
            texts: N texts.

        Returns:
            Token ids ``[N, L]`` int64 on the CPU, L = ``context_length``.

        Raises:
            TypeError: If ``texts`` is one string.
            ValueError: If a text does not fit, or spells a special token.
        """
        if isinstance(texts, str):
            raise TypeError(f"`texts` must be a list of texts. Got the single string {texts!r}.")
        tokens = torch.zeros(len(texts), self.context_length, dtype=torch.long)
        for row, text in enumerate(texts):
            ids = [self.tokenizer.sot_token_id, *self.token_ids(text), self.tokenizer.eot_token_id]
            if len(ids) > self.context_length:
                raise ValueError(
                    f"A text for {self.model!r} must have at most {self.context_length} tokens, both ends included. "
                    f"Got {len(ids)} in {text!r}."
                )
            tokens[row, : len(ids)] = torch.tensor(ids)
        return tokens

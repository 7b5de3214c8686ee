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


class TowerModules(nn.Module):
    """The text modules of an open_clip model under CLIP's own names, whichever class they come from.

    Args:
        model: An ``open_clip.CLIP``, or a ``CustomTextCLIP`` whose ``text`` is a ``TextTransformer``.

    Raises:
        ValueError: If the text tower is not causal, or is not read at its end-of-text token.
    """

    attn_mask: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        text = getattr(model, "text", model)
        pool_type = getattr(model, "text_pool_type", None) or getattr(text, "pool_type", None)
        if not isinstance(text, (open_clip.CLIP, TextTransformer)) or getattr(text, "cls_emb", None) is not None:
            raise ValueError(f"The text tower must be CLIP's own, without a class token. Got {type(text).__name__}.")
        if pool_type != "argmax":
            raise ValueError(f"The text tower must be read at its end-of-text token ('argmax'). Got {pool_type!r}.")
        length = text.positional_embedding.shape[0]
        causal = torch.full((length, length), float("-inf")).triu_(1)
        if text.attn_mask is None or not torch.equal(text.attn_mask.float().cpu(), causal):
            raise ValueError("The text tower must be causal. Got one with another attention mask.")
        self.token_embedding: nn.Embedding = text.token_embedding
        self.positional_embedding = text.positional_embedding
        self.transformer = text.transformer
        self.ln_final = text.ln_final
        self.text_projection = text.text_projection
        self.register_buffer("attn_mask", causal, persistent=False)
        self.requires_grad_(False).eval()

    def weights_hash(self) -> str:
        """SHA-256 over the sorted names, the shapes and the bytes of every weight."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
            digest.update(memoryview(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()))
        return digest.hexdigest()

    def lowered(self, dtype: torch.dtype) -> "TowerModules":
        """A copy laid out as open_clip does: linear weights in ``dtype``, embeddings and norms in float32."""
        lowered = copy.deepcopy(self)
        open_clip.convert_weights_to_lp(lowered, dtype=dtype)
        if isinstance(lowered.text_projection, nn.Parameter):
            lowered.text_projection.data = lowered.text_projection.data.to(dtype)
        for parent in list(lowered.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, LayerNorm):
                    norm = LayerNormFp32(child.normalized_shape, eps=child.eps)
                    norm.load_state_dict(child.state_dict())
                    setattr(parent, name, norm)
        return lowered.requires_grad_(False).eval()


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
        self.attn_mask: Tensor = modules.attn_mask
        self.context_length, self.width = self.positional_embedding.shape
        self.dtype: torch.dtype = self.transformer.get_cast_dtype()
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
        modules = copy.deepcopy(self.modules) if dtype == self.dtype else self.modules.lowered(dtype)
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

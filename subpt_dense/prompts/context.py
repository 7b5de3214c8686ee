"""Learned context shared by all classes: CoOp; with text anchors NFL, KgCoOp (M tokens, W text width, K classes)."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from subpt_dense.losses import TextAnchor
from subpt_dense.prompts.batch import TrainingBatch, pack_batch
from subpt_dense.prompts.held import Held
from subpt_dense.prompts.tower import TowerPrompt, check_templates, frozen_maths
from subpt_dense.registry import MODELS
from subpt_dense.text import (
    ENCODERS,
    POSITIONS,
    Prefix,
    PromptTokens,
    TextSpec,
    check_fit,
    check_max_tokens,
    clean_name,
    encode_context,
    pack_names,
    prefix_of,
    resolve_encoder,
)


class _Due(NamedTuple):
    """What the last forward in training leaves for the anchors: features with their graph, and their targets."""

    features: dict[str, Tensor]
    targets: dict[str, Tensor]


class _Frozen(NamedTuple):
    """A context's values, and what any vocabulary needs of them."""

    context: Tensor
    prefix: Prefix | None


@MODELS.register_module()
class ContextPrompt(TowerPrompt):
    """``[SOS] v1..vM name . [EOT]`` with learned ``v``, shared by all classes, in float32 (CoOp, arXiv 2109.01134).

    In training every :meth:`forward` encodes the vocabulary and the anchors' names in one batch, and
    :meth:`auxiliary_losses` is due after it. Otherwise (in eval, or with the context frozen by
    ``requires_grad_(False)``) rows are computed once, without graph, and again only after the vocabulary, the device or
    the context's values have changed; a new vocabulary alone does not cost the context again. Then there are no
    auxiliary losses.

    Args:
        text: The tower, ``dict(model=..., pretrained=..., precision="fp32")``.
        length: M >= 1, the number of learned tokens.
        init_std: The context starts as N(0, ``init_std``²).
        init_words: Start from the token embeddings of these words (``"a photo of a"``, with ``length=4``) instead.
        position: Where the name stands: ``"end"``, ``"middle"`` or ``"front"`` (see
            :func:`subpt_dense.text.pack_names`). Only names at the end are encoded the fast way.
        encoder: ``"auto"``, or the one to insist on, see :func:`subpt_dense.text.encode_context`.
        max_tokens: At most so many tokens at a time, >= 1 (but one packed tile, or one prompt): the memory a step keeps
            for backward no longer grows with the vocabulary, and its text part takes about half as long again.
            ``None``: all at once.
        anchors: Configs of :class:`subpt_dense.losses.TextAnchor` (``type`` may be left out), or the anchors.
        vocabulary: Class names in label order; may be set later.

    Attributes:
        context: The parameter ``[M, W]``.
        initial_context: Its value at the start of training ``[M, W]``, a buffer in the state dict.

    Raises:
        ValueError: If the tower, a name or a length is refused, or two anchors share a name.
    """

    initial_context: Tensor

    def __init__(
        self,
        text: dict | TextSpec,
        length: int = 16,
        init_std: float = 0.02,
        init_words: str | None = None,
        position: str = "end",
        encoder: str = "auto",
        max_tokens: int | None = None,
        anchors: Sequence[dict | TextAnchor] = (),
        vocabulary: Sequence[str] = (),
    ) -> None:
        super().__init__(text)
        self.length = length
        self.position = position
        self.encoder = encoder
        self.max_tokens = max_tokens
        self._check_encoding()
        self.init = f"N(0, {init_std}^2)" if init_words is None else init_words
        self.context = nn.Parameter(self._initial(length, init_std, init_words))
        self.register_buffer("initial_context", self.context.detach().clone())
        self.anchors = nn.ModuleList(_build_anchor(anchor) for anchor in anchors)
        self._check_anchors()
        self._batch: Held[TrainingBatch] = Held()
        self._frozen: Held[_Frozen] = Held()
        self._tokens: Held[PromptTokens] = Held()
        self._rows: Held[Tensor] = Held()
        self._due: Held[_Due] = Held()
        if vocabulary:
            self.vocabulary = vocabulary

    def _check_encoding(self) -> None:
        for name, value, allowed in (("position", self.position, POSITIONS), ("encoder", self.encoder, ENCODERS)):
            if value not in allowed:
                choice = ", ".join(map(repr, allowed))
                raise ValueError(f"`{name}` of ContextPrompt must be one of {choice}. Got {value!r}.")
        check_max_tokens(self.max_tokens, "ContextPrompt")
        resolve_encoder(self.tower(torch.device("cpu")), self.encoder, self.position, owner="ContextPrompt")

    def _initial(self, length: int, std: float, words: str | None) -> Tensor:
        """The first context, ``[M, W]`` float32."""
        tower = self.tower(torch.device("cpu"))
        longest = tower.context_length - 3  # [SOS], at least one token of "name.", [EOT]
        if not 1 <= length <= longest:
            raise ValueError(
                f"`length` of ContextPrompt must be in [1, {longest}] for {self.key.spec.model!r}, whose text has "
                f"{tower.context_length} positions. Got {length}."
            )
        if words is None:
            if not std > 0:
                raise ValueError(f"`init_std` of ContextPrompt must be positive. Got {std}.")
            return torch.randn(length, tower.width) * std
        with frozen_maths():
            ids = torch.tensor(tower.token_ids(clean_name(words)), dtype=torch.long)
            embedded = tower.token_embedding(ids).float().clone()  # [M, W]
        if len(embedded) != length:
            raise ValueError(
                f"`length` of ContextPrompt must be {len(embedded)}, the number of tokens of `init_words` {words!r}. "
                f"Got {length}."
            )
        return embedded

    def _anchors(self) -> list[TextAnchor]:
        return cast(list[TextAnchor], list(self.anchors))

    def _check_anchors(self) -> None:
        """Refuse a repeated loss name, or a name that does not fit behind the context, before training starts."""
        names = [anchor.name for anchor in self._anchors()]
        if len(set(names)) < len(names):
            raise ValueError(f"`name` of ContextPrompt's anchors must differ, one loss each. Got {', '.join(names)}.")
        for anchor in self._anchors():
            if anchor.names is not None:
                self._check_fit(anchor.names, [anchor])

    def _check_vocabulary(self, names: tuple[str, ...]) -> None:
        self._check_fit(names, [anchor for anchor in self._anchors() if anchor.names is None])

    def _check_fit(self, names: tuple[str, ...], anchors: list[TextAnchor]) -> None:
        tower = self.tower(torch.device("cpu"))
        check_fit(tower, names, self.length, self.position)
        for anchor in anchors:
            check_templates(tower, names, anchor.templates)

    def _drop_cache(self) -> None:
        # Rows and the training batch are found by their names: validation between epochs must not cost the targets.
        self._due.take()

    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Unit rows ``[K, D]`` float32; in training with the graph to :attr:`context`, else without any.

        Raises:
            RuntimeError: If there is no vocabulary.
        """
        names = self._named()
        self._due.take()
        if not (self.training and self.context.requires_grad):
            return self._frozen_rows(names)
        batch = self._training_batch(names)
        features = self._encode(self.context, batch.tokens)
        if self.anchors:
            held = {anchor: features[position] for anchor, position in batch.positions.items()}
            self._due.put(_Due(held, batch.targets))
        return features[: len(names)]

    def _encode(self, context: Tensor, tokens: PromptTokens, prefix: Prefix | None = None) -> Tensor:
        tower = self.tower(context.device)
        return encode_context(tower, context, tokens, encoder=self.encoder, max_tokens=self.max_tokens, prefix=prefix)

    def _frozen_rows(self, names: tuple[str, ...]) -> Tensor:
        """Rows without graph, kept while nothing has changed. Anybody may write to ``context.data``: compare it."""
        context = self.context.detach()
        tower, way = (
            self.tower(context.device),
            (self.key, self.encoder, self.max_tokens, context.device, context.dtype),
        )
        frozen = self._frozen.get(way)
        with frozen_maths():
            if frozen is None or not torch.equal(frozen.context, context):
                self._rows.take()
                prefix = prefix_of(tower, context, encoder=self.encoder, position=self.position)
                frozen = self._frozen.put(_Frozen(context.clone(), prefix), way)
            rows = self._rows.get((names, way))
            if rows is None:
                tokens = self._tokens.get((names, context.device))
                if tokens is None:
                    packed = pack_names(tower, names, self.length, self.position)
                    tokens = self._tokens.put(packed, (names, context.device))
                rows = self._rows.put(self._encode(context, tokens, frozen.prefix), (names, way))
        return rows

    def _weighted(self) -> list[TextAnchor]:
        """The anchors that cost anything: with weight 0 a step is CoOp's, to the bit."""
        return [anchor for anchor in self._anchors() if anchor.weight > 0]

    def _training_batch(self, names: tuple[str, ...]) -> TrainingBatch:
        device, anchors = self.context.device, self._weighted()
        key = (names, device, tuple(anchor.name for anchor in anchors))
        batch = self._batch.get(key)
        if batch is None:
            batch = self._batch.put(pack_batch(self.tower(device), names, anchors, self.length, self.position), key)
        return batch

    def auxiliary_losses(self) -> dict[str, Tensor]:
        """``{"loss_" + anchor.name: scalar}`` for the last :meth:`forward` in training; its features are then released.

        Raises:
            RuntimeError: If losses are due and no :meth:`forward` came before, or they were already taken.
        """
        if not (self.anchors and self.training and self.context.requires_grad):
            return {}
        due = self._due.take()
        if due is None:
            raise RuntimeError(
                "`auxiliary_losses()` of ContextPrompt must follow a `forward()` in training, once. "
                "There has been none since the last call or the last change of vocabulary."
            )
        return {
            "loss_" + anchor.name: anchor(due.features[anchor.name], due.targets[anchor.name])
            if anchor.name in due.features
            else torch.zeros((), device=self.context.device)
            for anchor in self._anchors()
        }

    def check_evaluated(self, names: Sequence[str], novel: Sequence[str] = ()) -> None:
        """Refuse generic anchors that hold an evaluated name: results would call them ignorant of it."""
        evaluated = {clean_name(name).casefold() for name in names}
        for anchor in self._anchors():
            known = [name for name in anchor.names or () if clean_name(name).casefold() in evaluated]
            if anchor.kind == "generic" and known:
                raise ValueError(
                    f"`names` of the generic TextAnchor {anchor.name!r} must hold no evaluated name. Got "
                    f"{', '.join(known[:5])}{' ...' if len(known) > 5 else ''}. State this data set's split as "
                    "its `exclude`, or say `kind='heldout'`."
                )

    def displacement(self) -> float:
        """L2 distance of the context from its initial value."""
        return (self.context.detach().float() - self.initial_context.float()).norm().item()

    def anchor_summary(self) -> list[dict[str, Any]]:
        """Each anchor's name, kind, weight, metric, templates and number of names."""
        return [anchor.summary() for anchor in self._anchors()]

    def identity(self) -> dict[str, Any]:
        """Adds the context's shape, place and start, and the anchors."""
        shape = {"length": self.length, "width": self.context.shape[1], "position": self.position, "init": self.init}
        return super().identity() | shape | {"anchors": self.anchor_summary()}


def _build_anchor(anchor: dict | TextAnchor) -> TextAnchor:
    return MODELS.build({"type": "subpt_dense.TextAnchor", **anchor}) if isinstance(anchor, dict) else anchor

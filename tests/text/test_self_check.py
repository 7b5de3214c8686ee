"""An encoder that disagrees with `reference` is stopped at first use."""

from collections.abc import Callable

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names, prefix_of
from subpt_dense.text import cascade as cascade_module
from subpt_dense.text import encoder as encoder_module
from subpt_dense.text import self_check as self_check_module
from subpt_dense.text import shared_prefix as shared_prefix_module
from subpt_dense.text.reference import encode_reference, encode_truncated
from subpt_dense.text.tiles import Tiles

NAMES = ["dog", "cat", "a rather long name", "hot dog"]
Tamper = Callable[..., None]


@pytest.fixture
def tower(tiny_clip: tuple[str, str]) -> TextTower:
    """A copy of its own: what was verified is remembered by the tower."""
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu").copy_to(torch.device("cpu"), torch.float32)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of names of every call of the check to `reference`."""
    calls: list[int] = []

    def recorded(tower, context, tokens):
        calls.append(len(tokens))
        return encode_reference(tower, context, tokens)

    monkeypatch.setattr(self_check_module, "encode_reference", recorded)
    return calls


@pytest.fixture
def tamper(monkeypatch: pytest.MonkeyPatch) -> Tamper:
    """Have the attention of suffixes ignore the mask, or its derivative lose what flows to the prefix."""
    attend, backward = cascade_module._attend, cascade_module._attend_backward

    def change(what: str) -> None:
        if what == "mask":
            monkeypatch.setattr(cascade_module, "_attend", lambda *xs: attend(*xs[:3], torch.zeros_like(xs[3])))
        else:
            lost = lambda *xs: tuple(x if i == 0 else torch.zeros_like(x) for i, x in enumerate(backward(*xs)))  # noqa: E731
            monkeypatch.setattr(cascade_module, "_attend_backward", lost)

    return change


def context(*shape: int) -> torch.Tensor:
    return torch.randn(shape or (4, 32), requires_grad=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_wrong_rows(tower: TextTower, tamper: Tamper, dtype: torch.dtype) -> None:
    tower = tower.copy_to(torch.device("cpu"), dtype)
    tamper("mask")
    with pytest.raises(RuntimeError, match=r"The rows of the text encoder 'shared_prefix, max_tokens=None' must agree"):
        encode_context(tower, context(), pack_names(tower, NAMES, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrong_gradient(tower: TextTower, tamper: Tamper, dtype: torch.dtype) -> None:
    tower = tower.copy_to(torch.device("cpu"), dtype)
    tamper("gradient")
    with pytest.raises(RuntimeError, match="The gradient of the text encoder .*Say encoder='reference' to go on"):
        encode_context(tower, context(), pack_names(tower, NAMES, 4))
    encode_context(tower, context().detach(), pack_names(tower, NAMES, 4))
    encode_context(tower, context(), pack_names(tower, NAMES, 4), encoder="truncated")


def test_wrong_gradient_of_contexts_of_their_own(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(tower, context, tokens, max_tokens):
        return encode_truncated(tower, context + context.detach().flip(0) - context.flip(0), tokens)

    monkeypatch.setitem(encoder_module._ENCODERS, "truncated", wrong)
    with pytest.raises(RuntimeError, match="The gradient of the text encoder 'truncated"):
        encode_context(tower, context(4, 4, 32), pack_names(tower, NAMES, 4))


@pytest.mark.parametrize("wrong", [0, 2, 3], ids=["first", "longest", "last"])
def test_one_wrong_class(tower: TextTower, wrong: int) -> None:
    tokens = pack_names(tower, NAMES, 4)
    good = tokens.tiles
    rank = good.rank.clone()
    rank[wrong] = rank[wrong - 1]
    tokens.__dict__["tiles"] = Tiles(good.size, good.ids, good.positions, good.mask, good.ends, rank, good.counts)
    with pytest.raises(RuntimeError, match="The rows of the text encoder"):
        encode_context(tower, context(), tokens)


def test_every_way_through_the_code(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, start = pack_names(tower, NAMES, 4), context()
    encode_context(tower, start, tokens)
    prefix = prefix_of(tower, start)
    plain = shared_prefix_module._encode_suffixes
    monkeypatch.setattr(shared_prefix_module, "_encode_suffixes", lambda *args: plain(*args).flip(0))
    encode_context(tower, start, tokens)
    for options in ({"max_tokens": 1}, {"prefix": prefix}):
        with pytest.raises(RuntimeError, match="The rows of the text encoder"):
            encode_context(tower, start, tokens, **options)


def test_once_for_a_vocabulary(tower: TextTower, counted: list[int]) -> None:
    tokens = pack_names(tower, NAMES, 4)
    for _ in range(3):
        encode_context(tower, context(), tokens)
    assert counted == [3, 3]  # rows, gradient
    encode_context(tower, context(), pack_names(tower, NAMES[:2], 4))
    assert counted == [3, 3, 2]  # the gradient is known
    encode_context(tower, context(), tokens, encoder="truncated")
    assert counted == [3, 3, 2, 3, 3]
    encode_context(tower, context(), tokens, encoder="reference")
    assert len(counted) == 5


def test_rounding_is_no_error(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with TF32: products of rounded numbers, in `reference` too."""
    for block in tower.transformer.resblocks:
        block.attn.in_proj_weight.data[:64] *= 4  # sharp attention multiplies what rounding does
    torch.manual_seed(0)
    tokens = pack_names(tower, NAMES, 4)
    low = tower.copy_to(torch.device("cpu"), torch.bfloat16)
    monkeypatch.setitem(self_check_module.TOLERANCES, torch.bfloat16, self_check_module.Tolerance(1e-3, 1e-3))
    rows = encode_context(low, context(), tokens)
    assert torch.isfinite(rows).all()


@pytest.mark.parametrize("names", [NAMES, ["zebra"]])
def test_somebodys_activation_checkpointing(tower: TextTower, names: list[str]) -> None:
    start, tokens = context(), pack_names(tower, names, 4)
    (wanted,) = torch.autograd.grad(encode_context(tower, start, pack_names(tower, names, 4))[:, 0].sum(), start)
    rows = checkpoint(lambda c: encode_context(tower, c, tokens), start, use_reentrant=False)
    (gradient,) = torch.autograd.grad(rows[:, 0].sum(), start)
    torch.testing.assert_close(gradient, wanted)


def test_a_diverged_context_is_not_the_encoders_fault(tower: TextTower) -> None:
    rows = encode_context(tower, torch.full((4, 32), torch.nan), pack_names(tower, NAMES, 4))
    assert rows.isnan().all()

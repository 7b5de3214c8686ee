"""An encoder that disagrees with `reference` is stopped at first use."""

import pytest
import torch

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names
from subpt_dense.text import encoder as encoder_module
from subpt_dense.text import shared_prefix as shared_prefix_module
from subpt_dense.text.tiles import Tiles

NAMES = ["cat", "hot dog", "a rather long name"]


@pytest.fixture
def tower(tiny_clip: tuple[str, str]) -> TextTower:
    """A copy of its own: what was verified is remembered by the tower."""
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu").copy_to(torch.device("cpu"), torch.float32)


def context() -> torch.Tensor:
    return torch.randn(4, 32, requires_grad=True)


def test_wrong_rows(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = shared_prefix_module.cascade_attention
    monkeypatch.setattr(
        shared_prefix_module, "cascade_attention", lambda qkv, k, v, mask: seen(qkv, k, v, torch.zeros_like(mask))
    )
    with pytest.raises(RuntimeError, match=r"'shared_prefix' must agree with 'reference' to 0\.0001 in torch\.float32"):
        encode_context(tower, context(), pack_names(tower, NAMES, 4))


def test_wrong_gradient(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = shared_prefix_module.cascade_attention
    monkeypatch.setattr(
        shared_prefix_module, "cascade_attention", lambda qkv, k, v, mask: seen(qkv, k.detach(), v, mask)
    )
    with pytest.raises(RuntimeError, match="The gradient of the text encoder 'shared_prefix' must agree"):
        encode_context(tower, context(), pack_names(tower, NAMES, 4))
    encode_context(tower, context(), pack_names(tower, NAMES, 4), encoder="truncated")


def test_a_packing_that_mixes_classes_up(tower: TextTower) -> None:
    tokens = pack_names(tower, NAMES, 4)
    encode_context(tower, context(), tokens)
    again = pack_names(tower, NAMES, 4)
    good = again.tiles
    again.__dict__["tiles"] = Tiles(
        good.size, good.ids, good.positions, good.mask, good.ends, good.rank.flip(0), good.counts
    )
    with pytest.raises(RuntimeError, match="Got a distance of .* for .*Say encoder='reference' to go on"):
        encode_context(tower, context(), again)


def test_once_for_a_vocabulary(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    check = encoder_module.check_rows
    tokens = pack_names(tower, NAMES, 4)
    reference = "subpt_dense.text.self_check.encode_reference"
    plain = encoder_module.encode_reference
    monkeypatch.setattr(reference, lambda *args: calls.append(1) or plain(*args))
    monkeypatch.setattr(encoder_module, "check_rows", check)
    for _ in range(3):
        encode_context(tower, context(), tokens)
    assert len(calls) == 2  # rows, gradient
    encode_context(tower, context(), pack_names(tower, NAMES[:2], 4))
    assert len(calls) == 3  # the gradient is known
    encode_context(tower, context(), tokens, encoder="truncated")
    assert len(calls) == 5
    encode_context(tower, context(), tokens, encoder="reference")
    assert len(calls) == 5


def test_a_diverged_context_is_not_the_encoders_fault(tower: TextTower) -> None:
    rows = encode_context(tower, torch.full((4, 32), torch.nan), pack_names(tower, NAMES, 4))
    assert rows.isnan().all()

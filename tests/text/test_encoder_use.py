"""What encoding costs and takes: memory, precision, modes of torch, refusals."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names, prefix_of
from subpt_dense.text import shared_prefix as shared_prefix_module
from subpt_dense.text import tiles as tiles_module
from subpt_dense.text.tiles import Tiles
from tests.text.coop import NAMES, WAYS, rows_and_gradient
from tests.tiny_clip import tiny_config, write_tiny_clip

#: Largest difference of a unit row's entries from float32, by precision.
ATOL = {"bf16": 5e-2, "fp16": 5e-3}


def saved_floats(encode: Callable[[], Tensor]) -> int:
    """What a graph keeps, each storage once, weights included."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    encode()  # constants and checks
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        rows = encode()
    assert rows.requires_grad
    return sum(kept.values())


def test_a_token_saves_what_its_layers_need(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two vocabularies differ by their tokens alone, so that weights and prefix cancel out."""
    monkeypatch.setattr(tiles_module, "_token_cost", lambda size, width: abs(size - 24) + 1e-3)
    context = torch.randn(16, 32, requires_grad=True)
    packs = [pack_names(tower, [f"{word} {i}" for i in range(count) for word in "ab"], 16) for count in (40, 400)]
    few, many = (saved_floats(lambda tokens=tokens: encode_context(tower, context, tokens)) for tokens in packs)
    assert packs[0].tiles.size == packs[1].tiles.size == 24
    found = (many - few) / (len(packs[1].tiles.ids) - len(packs[0].tiles.ids))
    ends = (len(packs[1]) - len(packs[0])) / (len(packs[1].tiles.ids) - len(packs[0].tiles.ids))
    size, width, heads = packs[0].tiles.size, 32, 2
    attention = 3 * width + heads * (17 + size)  # q, k, v, and the weights over prefix and tile
    first = attention + width + 4 * width  # norm 2, MLP
    last = width + attention + ends * (width + 4 * width + 3 * width + 24)  # norm 1; what follows has ends only
    assert found <= 1.05 * (first + last)


@pytest.mark.parametrize(
    ("options", "position"),
    [({}, "end"), ({}, "front"), ({"encoder": "truncated"}, "end"), ({"encoder": "reference"}, "end")],
    ids=["shared", "front", "truncated", "reference"],
)
def test_chunks_bound_what_is_saved(tower: TextTower, options: dict, position: str) -> None:
    context = torch.randn(16, 32, requires_grad=True)
    found = []
    for count in (20, 200):
        tokens = pack_names(tower, [f"{word} {i}" for i in range(count) for word in "ab"], 16, position)
        found.append(saved_floats(lambda t=tokens: encode_context(tower, context, t, max_tokens=200, **options)))
    assert found[1] - found[0] < 180 * 2 * 77 * 4, "more than what the prompts are made of is kept"


def test_constants_are_computed_once(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    compute = shared_prefix_module._compute_constants
    monkeypatch.setattr(
        shared_prefix_module, "_compute_constants", lambda *args: calls.append(args[1]) or compute(*args)
    )
    tokens = pack_names(tower, NAMES, 4)
    for _ in range(3):
        encode_context(tower, torch.randn(4, 32, requires_grad=True), tokens)
    assert [tiles is tokens.tiles for tiles in calls].count(True) == 1


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)], ids=["bf16", "fp16"])
@pytest.mark.parametrize("way", ["truncated", "shared", "chunked"])
def test_low_precision_is_near_the_same_weights_in_float32(
    tmp_path: Path, activation: str, dtype: torch.dtype, atol: float, way: str
) -> None:
    config = {**tiny_config(), "quick_gelu": activation == "quick_gelu"}
    low = get_tower(load_tower(TextSpec(*write_tiny_clip(tmp_path, config=config))), "cpu").copy_to(
        torch.device("cpu"), dtype
    )
    wide = low.copy_to(torch.device("cpu"), torch.float32)
    torch.manual_seed(0)
    start, weight = torch.randn(4, 32) * 0.1, torch.randn(len(NAMES), 24)
    found = []
    for tower, options in ((low, WAYS[way]), (wide, {"encoder": "reference"})):
        tokens = pack_names(tower, NAMES, 4)
        found.append(
            rows_and_gradient(lambda c, t=tower, k=tokens, o=options: encode_context(t, c, k, **o), start, weight)
        )
    (rows, gradient), (wanted, slope) = found
    assert rows.dtype == gradient.dtype == torch.float32
    assert (rows - wanted).norm(dim=1).max() <= atol
    assert (gradient - slope).norm() <= 5 * atol * slope.norm()


def test_backward_under_autocast(tower: TextTower) -> None:
    """Not how it should be called, as torch says itself; it may lose digits and must not fail."""
    start, tokens, found = torch.randn(4, 32), pack_names(tower, NAMES, 4), []
    for enabled in (False, True):
        context = start.clone().requires_grad_()
        rows = encode_context(tower, context, tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            rows[:, 0].sum().backward()
        found.append(context.grad)
    torch.testing.assert_close(found[1], found[0], atol=2e-2, rtol=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_first_used_in_inference_mode_and_then_trained(
    tower: TextTower, way: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tiles that are copied to their device, as from the CPU to a GPU."""
    move = Tiles.to

    def copied(self: Tiles, device: torch.device) -> Tiles:
        with monkeypatch.context() as patch:
            patch.setattr(Tensor, "to", lambda tensor, *args: tensor.clone())
            return move(self, device)

    monkeypatch.setattr(Tiles, "to", copied)
    tokens, context = pack_names(tower, NAMES, 4), torch.randn(4, 32, requires_grad=True)
    with torch.inference_mode():
        before = encode_context(tower, context, tokens, **way)
    rows = encode_context(tower, context, tokens, **way)
    rows.sum().backward()
    torch.testing.assert_close(rows.detach(), before.clone(), atol=1e-6, rtol=0)
    assert context.grad is not None


def test_what_does_not_belong_together(tower: TextTower, tmp_path: Path) -> None:
    tokens, context = pack_names(tower, NAMES, 4), torch.randn(4, 32)
    with pytest.raises(ValueError, match="`prefix` of encode_context must be that of its context"):
        encode_context(tower, context, tokens, prefix=prefix_of(tower, context + 1))
    for text, message in (
        ({"width": 64}, "of width 64 on cpu"),
        ({"context_length": 12}, "that reads 12. Got width 32"),
    ):
        other = get_tower(load_tower(TextSpec(*write_tiny_clip(tmp_path, config=tiny_config(**text)))), "cpu")
        with pytest.raises(ValueError, match=f"`tokens` of encode_context must have been packed for .*{message}"):
            encode_context(other, torch.randn(4, other.width), tokens)


def test_nothing_to_encode(tower: TextTower) -> None:
    assert encode_context(tower, torch.zeros(2, 32), pack_names(tower, [], 2)).shape == (0, 24)


@pytest.mark.parametrize(
    ("shape", "changes", "message"),
    [
        ((3, 32), {}, r"must be \[M, W\] = \[4, 32\], or \[N, M, W\] with N = 5\. Got \[3, 32\]\."),
        ((4, 24), {}, r"= \[4, 32\], .* Got \[4, 24\]\."),
        ((1, 4, 32), {}, r"Got \[1, 4, 32\]\."),
        ((4, 32), {"max_tokens": 0}, "`max_tokens` of encode_context must be an integer >= 1, or None. Got 0."),
        ((4, 32), {"max_tokens": 40.5}, "Got 40.5."),
        ((4, 32), {"encoder": "fast"}, "must be 'auto' or one of 'reference', 'truncated', 'shared_prefix' here"),
    ],
)
def test_refusals(tower: TextTower, shape: tuple[int, ...], changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_context(tower, torch.zeros(shape), pack_names(tower, NAMES, 4), **changes)


def test_the_gradient_reaches_the_context_only(tower: TextTower) -> None:
    context = torch.randn(2, 32, requires_grad=True)
    encode_context(tower, context, pack_names(tower, NAMES, 2)).sum().backward()
    assert context.grad is not None and context.grad.dtype == torch.float32
    assert all(p.grad is None for p in tower.modules.parameters())
    frozen = encode_context(tower, context.detach(), pack_names(tower, NAMES, 2))
    assert not frozen.requires_grad


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_low_precision_tower_keeps_a_float32_context(
    tiny_clip: tuple[str, str], tower: TextTower, precision: str
) -> None:
    low = get_tower(load_tower(TextSpec(*tiny_clip, precision)), "cpu")
    context = torch.randn(4, 32, requires_grad=True)
    tokens = pack_names(tower, NAMES, 4)
    rows = encode_context(low, context, tokens)
    rows[:, 0].sum().backward()
    assert rows.dtype == torch.float32 and context.grad is not None and context.grad.dtype == torch.float32
    torch.testing.assert_close(rows, encode_context(tower, context, tokens), atol=ATOL[precision], rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_contexts_of_other_dtypes_are_computed_in_float32(tower: TextTower, dtype: torch.dtype) -> None:
    context = torch.randn(4, 32).to(dtype)
    tokens = pack_names(tower, NAMES, 4)
    assert torch.equal(encode_context(tower, context, tokens), encode_context(tower, context.float(), tokens))


def test_context_on_another_device(tower: TextTower) -> None:
    with pytest.raises(ValueError, match="must be on the tower's cpu. Got meta."):
        encode_context(tower, torch.zeros(2, 32, device="meta"), pack_names(tower, NAMES, 2))


@pytest.mark.gpu
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-4), (torch.bfloat16, 5e-2), (torch.float16, 5e-3)])
def test_context_on_a_gpu(tower: TextTower, way: dict, dtype: torch.dtype, atol: float) -> None:
    found = []
    for each in (tower, tower.copy_to(torch.device("cuda", 0), dtype)):
        context = torch.linspace(-1, 1, 4 * 32).view(4, 32).to(each.device).requires_grad_()
        tokens = pack_names(each, NAMES, 4)
        with torch.inference_mode():
            encode_context(each, context, tokens, **way)
        with torch.autocast(each.device.type):
            rows = encode_context(each, context, tokens, **way)
        rows[:, 0].sum().backward()
        assert context.grad is not None
        found.append((rows.detach().cpu(), context.grad.cpu()))
    for ours, wanted in zip(*found, strict=True):
        torch.testing.assert_close(ours, wanted, atol=5 * atol, rtol=0)

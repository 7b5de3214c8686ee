"""Layers laid out beforehand: the plain layer's numbers, where they serve, and for how long they are kept."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch.nn.functional import linear

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names
from subpt_dense.text import packed as packed_module
from subpt_dense.text import shared_prefix as shared_prefix_module
from subpt_dense.text.packed import MOST_ROWS, PackedLinear, pays
from tests.text.coop import NAMES, rows_and_gradient
from tests.tiny_clip import tiny_config, write_tiny_clip

pytestmark = pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="torch was built without MKL")


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 32, 96), (17, 64, 64), (215, 96, 384), (64, 384, 96)])
@pytest.mark.parametrize(("scale", "bias_scale"), [(1.0, 1.0), (1.702, 1.702), (1 / 1.702, 1.0)])
def test_product_and_gradient(rows: int, inputs: int, outputs: int, scale: float, bias_scale: float) -> None:
    weight, bias = torch.randn(outputs, inputs), torch.randn(outputs)
    layer = PackedLinear(weight, bias, rows, scale, bias_scale)
    x = torch.randn(rows, inputs, requires_grad=True)
    direction = torch.randn(outputs, rows).t()  # as it may come: not contiguous
    (found,) = torch.autograd.grad(layer(x), x, direction)
    expected = linear(x.detach().double(), scale * weight.double(), bias_scale * bias.double())
    torch.testing.assert_close(layer(x).double(), expected, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(found.double(), scale * direction.double() @ weight.double(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_rows_and_gradient_are_those_of_plain_layers(
    tmp_path: Path, quick_gelu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = get_tower(
        load_tower(TextSpec(*write_tiny_clip(tmp_path, config={**tiny_config(), "quick_gelu": quick_gelu}))), "cpu"
    )
    start, weight = torch.randn(4, tower.width), torch.randn(len(NAMES), tower.embed_dim)
    packs, pack = [], shared_prefix_module.pack_block
    monkeypatch.setattr(shared_prefix_module, "pack_block", lambda *args: packs.append(args) or pack(*args))

    def encode() -> tuple[torch.Tensor, torch.Tensor]:
        tokens = pack_names(tower, NAMES, 4)
        return rows_and_gradient(lambda context: encode_context(tower, context, tokens), start, weight)

    packed = encode()
    assert packs, "nothing was packed"
    monkeypatch.setattr(shared_prefix_module, "pays", lambda *_: False)
    for one, other in zip(packed, encode(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


CASES = [
    ("few rows", torch.float32, 215, True),
    ("as many as pay", torch.float32, MOST_ROWS, True),
    ("more", torch.float32, MOST_ROWS + 1, False),
    ("double", torch.float64, 215, False),
    ("bf16", torch.bfloat16, 215, False),
]


@pytest.mark.parametrize(("dtype", "rows", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_where_it_serves(tower: TextTower, dtype: torch.dtype, rows: int, expected: bool) -> None:
    assert pays(tower.copy_to(torch.device("cpu"), dtype), rows) is expected


def test_copies_of_a_large_tower_are_not_made(tower: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = sum(weight.nbytes for weight in tower.transformer.parameters())
    monkeypatch.setattr(packed_module, "MOST_BYTES", 2 * weights)
    assert pays(tower, 1)
    monkeypatch.setattr(packed_module, "MOST_BYTES", 2 * weights - 1)
    assert not pays(tower, 1)


def test_packed_once_a_vocabulary_and_number_of_threads_and_kept_no_longer(
    tower: TextTower, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, pack = list[weakref.ref](), shared_prefix_module.pack_block

    def noted(*args: object) -> object:
        block = pack(*args)
        made.append(weakref.ref(block.qkv))
        return block

    monkeypatch.setattr(shared_prefix_module, "pack_block", noted)
    tokens = pack_names(tower, ["zebra", "quagga"], 4)
    context = torch.randn(4, tower.width)
    with torch.no_grad():
        shared_prefix_module.encode_shared_prefix(tower, context, tokens)
    assert not made, "packed where no gradient is wanted: it would be used once"
    for _ in range(3):
        shared_prefix_module.encode_shared_prefix(tower, context.clone().requires_grad_(), tokens)
    blocks = len(tower.transformer.resblocks) - 1
    assert len(made) == blocks
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        for _ in range(2):
            shared_prefix_module.encode_shared_prefix(tower, context.clone().requires_grad_(), tokens)
    finally:
        torch.set_num_threads(threads)
    assert len(made) == 2 * blocks, "packed for as many threads as there were"
    del tokens
    gc.collect()
    assert not any(block() for block in made)

"""Names packed behind a learned context."""

import copy

import open_clip
import pytest
import torch

from subpt_dense.text import TextSpec, TextTower, encode_context, get_tower, load_tower, pack_names

EOT = 49407


@pytest.fixture(scope="module")
def tower(tiny_clip: tuple[str, str]) -> TextTower:
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")


@pytest.mark.parametrize("length", [0, 1, 16])
def test_as_coop_lays_out_placeholders(tower: TextTower, length: int) -> None:
    names = ["cat", "hot_dog", "car (automobile)", "Crêpe  pan"]
    tokens = pack_names(tower, names, length)
    spelled = ["cat.", "hot dog.", "car (automobile).", "Crêpe pan."]
    reference = open_clip.tokenize([" ".join(["X"] * length + [text]) for text in spelled])  # [N, 77]
    longest = int(reference.argmax(dim=1).max()) + 1
    shared = torch.arange(longest).sub(1).clamp(-1, length).unique()[1:-1] + 1  # where the context goes
    assert torch.equal(tokens.slots, shared.expand(4, -1))
    reference[:, shared] = 0
    assert torch.equal(tokens.ids, reference[:, :longest])
    assert torch.equal(tokens.end, reference.argmax(dim=1))
    assert (tokens.names, tokens.context_length, len(tokens)) == (tuple(names), length, 4)


def test_a_closing_bracket_joins_the_full_stop(tower: TextTower) -> None:
    suffix = pack_names(tower, ["car (automobile)"], 4).ids[0, 5:].tolist()
    separate = open_clip.tokenize(["car (automobile)"])[0].tolist()
    assert suffix.index(EOT) == separate.index(EOT) - 1  # [SOS] aside, no token more than without the full stop


def test_a_name_may_occur_twice_and_none_is_empty(tower: TextTower) -> None:
    tokens = pack_names(tower, ["cat", "cat"], 2)
    assert torch.equal(tokens.ids[0], tokens.ids[1])
    assert len(pack_names(tower, [], 2)) == 0


def test_the_longest_that_fits_and_one_more(tower: TextTower) -> None:
    fits = " ".join(["cat"] * 58)  # 1 + 16 + 58 + full stop + end = 77
    assert pack_names(tower, [fits], 16).end.item() == 76
    with pytest.raises(ValueError) as caught:
        pack_names(tower, ["dog", f"{fits} x", fits], 17)
    message = str(caught.value)
    assert "at most 59 tokens, full stop and end included, after 1 start and 17 context tokens" in message
    assert f"'{tower.model}' reads 77" in message
    assert f"'{fits} x' (61), '{fits}' (60)" in message and "'dog'" not in message


@pytest.mark.parametrize(
    ("names", "length", "message"),
    [
        (["cat"], -1, "`context_length` of pack_names must be at least 0. Got -1."),
        (["cat"], 75, "at most 1 tokens"),
    ],
)
def test_refusals(tower: TextTower, names: list[str], length: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_names(tower, names, length)


def test_packed_in_inference_mode_and_copied_tokens_can_train(tower: TextTower) -> None:
    with torch.inference_mode():
        tokens = pack_names(tower, ["cat", "hot dog"], 2)
    context = torch.randn(2, 32, requires_grad=True)
    encode_context(tower, context, copy.deepcopy(tokens)).sum().backward()
    assert context.grad is not None

"""Two branches' scores fused by group, and who is told the groups."""

import pytest
import torch
from torch import Tensor, nn

from subpt_dense.heads import fuse_scores, hand_out_groups
from subpt_dense.heads.ensemble import check_groups

BASE = torch.tensor([True, False, True, False, False])


def probabilities(seed: int, n: int = 7, k: int = 5) -> Tensor:
    return torch.softmax(3 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_each_class_by_its_group() -> None:
    text, image = 0.8 * probabilities(0), probabilities(1)  # a fifth of the text's mass is the background's
    expected = [
        [t ** (2 / 3) * i ** (1 / 3) if base else t ** (1 / 3) * i ** (2 / 3) for t, i, base in zip(*rows, strict=True)]
        for rows in zip(text.tolist(), image.tolist(), [BASE.tolist()] * len(text), strict=True)
    ]
    torch.testing.assert_close(fuse_scores(text, image, BASE), torch.tensor(expected), rtol=1e-5, atol=1e-7)


def test_the_released_form_of_the_same_means() -> None:
    """ViLD's code: the cube root of text * image * (text for base classes, image for the others)."""
    text, image = probabilities(0), probabilities(1)
    third = torch.where(BASE, text, image)
    torch.testing.assert_close(fuse_scores(text, image, BASE), (text * image * third) ** (1 / 3))


def test_nothing_is_normalised_again() -> None:
    text, image = probabilities(0), probabilities(1)
    halved = fuse_scores(0.5 * text, image, BASE)
    factors = torch.where(BASE, 0.5 ** (2 / 3), 0.5 ** (1 / 3))
    torch.testing.assert_close(halved, fuse_scores(text, image, BASE) * factors)


@pytest.mark.parametrize(("weight", "chosen"), [(0.0, 0), (1.0, 1)])
def test_weights_at_their_ends(weight: float, chosen: int) -> None:
    branches = probabilities(0), probabilities(1)
    fused = fuse_scores(*branches, BASE, base_weight=weight, novel_weight=weight)
    torch.testing.assert_close(fused, branches[chosen])


def test_no_regions() -> None:
    assert fuse_scores(torch.zeros(0, 5), torch.zeros(0, 5), BASE).shape == (0, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_fused_in_float32(dtype: torch.dtype) -> None:
    text = torch.full((1, 5), 1e-6, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = fuse_scores(text, text, BASE)
    assert fused.dtype == torch.float32
    torch.testing.assert_close(fused, text.float())


@pytest.mark.parametrize(
    ("text", "image", "base", "weights", "message"),
    [
        ((2, 5), (2, 4), 5, {}, r"one shape \[N, K\].* Got \[2, 5\], \[2, 4\] and \[5\]"),
        ((2, 5), (2, 5), 4, {}, r"`base` \[K\]. Got \[2, 5\], \[2, 5\] and \[4\]"),
        ((5,), (5,), 5, {}, r"Got \[5\], \[5\] and \[5\]"),
        ((2, 5), (2, 5), 5, {"base_weight": 1.5}, r"`base_weight` of fuse_scores must be in \[0, 1\]. Got 1.5"),
        ((2, 5), (2, 5), 5, {"novel_weight": -0.1}, r"`novel_weight` of fuse_scores must be in \[0, 1\]. Got -0.1"),
    ],
)
def test_what_is_refused(text: tuple, image: tuple, base: int, weights: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fuse_scores(torch.zeros(text), torch.zeros(image), torch.zeros(base, dtype=torch.bool), **weights)


# ---- handing on ------------------------------------------------------------------------------------------------------


class Taker(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.given: list[list[bool]] = []

    def set_groups(self, base: Tensor) -> None:
        self.given.append(check_groups(base, type(self).__name__).tolist())


def test_groups_go_by_name_to_every_module_that_takes_them() -> None:
    model = Taker()  # the model itself may be one
    model.inner = nn.Sequential(nn.Linear(1, 1), Taker())
    hand_out_groups(model, ["wolf", "cat", "dog"], ("dog", "cat", "cow"))
    assert model.given == model.inner[1].given == [[False, True, True]]
    hand_out_groups(model, ["cat"], ())
    assert model.given[-1] == [False]


def test_unknown_groups_matter_only_where_they_are_asked_for() -> None:
    hand_out_groups(nn.Linear(1, 1), ["cat"], None)
    with pytest.raises(ValueError, match="`base_classes` must be in the metainfo of a data set for Taker, which"):
        hand_out_groups(Taker(), ["cat"], None)


@pytest.mark.parametrize(
    ("base", "error", "message"),
    [
        ([True], TypeError, r"`base` of X must be a bool tensor \[K\]. Got list"),
        (torch.ones(3), TypeError, r"Got torch.float32"),
        (torch.ones(1, 3, dtype=torch.bool), ValueError, r"`base` of X must have shape \[K\]. Got \[1, 3\]"),
    ],
)
def test_groups_that_are_none(base, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_groups(base, "X")

"""The soft background: by its definition, with and without weights, and what it refuses."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from subpt_dense.losses import SoftBackground
from subpt_dense.registry import MODELS


@pytest.fixture
def loss() -> SoftBackground:
    return MODELS.build({"type": "subpt_dense.SoftBackground"})


def logits(count: int, classes: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return (3 * torch.randn(count, classes, generator=generator)).requires_grad_()


def test_regions_of_classes_alone_are_cross_entropy(loss):
    found, label = logits(6), torch.arange(6) % 5
    torch.testing.assert_close(loss(found, label), cross_entropy(found, label))
    weight = torch.rand(6)
    expected = (weight * cross_entropy(found, label, reduction="none")).sum() / weight.sum()
    torch.testing.assert_close(loss(found, label, weight), expected)


def test_background_alone_is_the_divergence_from_uniform(loss):
    """Cross-entropy to the uniform distribution: its divergence, plus its entropy log K."""
    found, label = logits(4), torch.full((4,), -1)
    uniform = torch.full((4, 5), 1 / 5)
    expected = kl_div(log_softmax(found, 1), uniform, reduction="batchmean") + torch.tensor(5.0).log()
    torch.testing.assert_close(loss(found, label), expected)
    torch.testing.assert_close(loss(torch.zeros(4, 5), label), torch.tensor(5.0).log())  # nothing is lower


def test_gradient_of_background_is_that_of_the_uniform_target(loss):
    found = logits(3)
    loss(found, torch.tensor([-1, -1, -1])).backward()
    torch.testing.assert_close(found.grad, (found.softmax(1) - 1 / 5).detach() / 3)


def test_both_in_one_batch_region_by_region(loss):
    found, label, weight = logits(5), torch.tensor([2, -1, 0, -1, 4]), torch.tensor([1.0, 0.5, 2.0, 0.0, 3.0])
    log_p = found.log_softmax(1).tolist()
    each = [-log_p[0][2], -sum(log_p[1]) / 5, -log_p[2][0], -sum(log_p[3]) / 5, -log_p[4][4]]
    expected = sum(w * one for w, one in zip(weight.tolist(), each, strict=True)) / 6.5
    assert loss(found, label, weight).item() == pytest.approx(expected, rel=1e-6)
    assert loss(found, label).item() == pytest.approx(sum(each) / 5, rel=1e-6)
    doubled = loss(found, label, weight.double() * 7)  # a data loader gives float64, and only ratios count
    assert doubled.dtype == torch.float32 and doubled.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [0, 3])
def test_nothing_to_learn_from_gives_zero(loss, count):
    found = logits(count)
    value = loss(found, torch.zeros(count, dtype=torch.long), torch.zeros(count))
    value.backward()
    assert value == 0 and not found.grad.any()


def test_half_precision_is_computed_in_float32(loss):
    found = logits(4).detach().half()
    assert loss(found, torch.tensor([0, -1, 2, -1])) == loss(found.float(), torch.tensor([0, -1, 2, -1]))


@pytest.mark.parametrize(
    "shapes", [((3, 5), (2,), None), ((3, 5), (3, 1), None), ((3,), (3,), None), ((3, 5), (3,), (2,))], ids=str
)
def test_refused_shapes(loss, shapes):
    found, label, weight = shapes
    with pytest.raises(ValueError, match=r"must have the shapes \[N, K\], \[N\] and \[N\]\. Got \[3"):
        loss(torch.zeros(found), torch.zeros(label, dtype=torch.long), None if weight is None else torch.ones(weight))

import pytest
import torch

from subpt_dense.losses import ZeroShotKL
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, encode_templates, get_templates, get_tower, load_tower


def logits(count: int, seed: int) -> torch.Tensor:
    return 5 * torch.randn(count, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def loss() -> ZeroShotKL:
    return MODELS.build({"type": "subpt_dense.ZeroShotKL", "templates": "single"})


@pytest.mark.parametrize("count", [1, 5])
def test_divergence(loss, count):
    """By the definition; its gradient is that of ProGrad's soft cross-entropy, (p - p_zs) / B."""
    learned, frozen = logits(count, 0).requires_grad_(), logits(count, 1).requires_grad_()
    p, q = learned.softmax(1), frozen.softmax(1)
    value = loss(learned, frozen)
    assert value.dtype == torch.float32 and value.shape == ()
    torch.testing.assert_close(value.double(), (q * (q / p).log()).sum(1).mean(), rtol=1e-6, atol=1e-7)
    value.backward()
    torch.testing.assert_close(learned.grad, ((p - q) / count).detach(), rtol=1e-5, atol=1e-7)
    assert frozen.grad is None


def test_equal_predictions_do_not_diverge(loss):
    assert loss(logits(3, 0), logits(3, 0) + 1).abs() <= 1e-6  # a shift of all logits is no difference
    assert loss(logits(3, 0), logits(3, 1)) > 0.1


def test_certain_predictions_stay_finite(loss):
    learned = torch.tensor([[1000.0, -1000.0]], requires_grad=True)
    value = loss(learned, torch.tensor([[1000.0, -1000.0]]))
    value.backward()
    assert value == 0 and torch.isfinite(learned.grad).all()


def test_no_images(loss):
    learned = torch.zeros(0, 4, requires_grad=True)
    value = loss(learned, torch.zeros(0, 4))
    value.backward()
    assert value == 0 and learned.grad.shape == (0, 4)


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((2, 3), (3, 3)), ((3,), (3,))], ids=str)
def test_refused_shapes(loss, shapes):
    with pytest.raises(ValueError, match=r"`logits` and `zero_shot` of ZeroShotKL must have one shape \[B, K\]\. Got"):
        loss(*(torch.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("templates", ["toy", ["a drawing of a {}."]], ids=["named", "listed"])
def test_rows(tiny_clip, templates):
    loss, tower = ZeroShotKL(templates), get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")
    assert torch.equal(
        loss.rows(tower, ("cat", "dog")), encode_templates(tower, ("cat", "dog"), get_templates(templates))
    )
    assert loss.summary() == {"type": "ZeroShotKL", "templates": templates if templates == "toy" else "1 listed"}
    assert repr(loss.summary()["templates"]) in repr(loss)


def test_refused_templates():
    with pytest.raises(ValueError, match="exactly one {}"):
        ZeroShotKL(["a photo"])

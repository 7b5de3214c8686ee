import copy

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn
from torch.nn.functional import cosine_similarity, normalize

from subpt_dense.heads import TextClassifier
from subpt_dense.registry import MODELS

K, D, IN = 5, 8, 12


@pytest.fixture
def rows() -> torch.Tensor:
    return normalize(torch.randn(K, D, generator=torch.Generator().manual_seed(0)), dim=1)


def classifier(**changes) -> TextClassifier:
    torch.manual_seed(1)
    config = {"type": "subpt_dense.TextClassifier", "in_features": IN, "embed_dim": D, **changes}
    return MODELS.build(config)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_logits(rows, background, temperature):
    head = classifier(background=background, temperature=temperature, out_features=81)
    head.set_rows(rows)
    x = torch.randn(7, IN)
    logits = head(x)
    assert logits.shape == (7, K + background) and logits.dtype == torch.float32
    columns = [*rows, head.background] if background else [*rows]  # background last
    expected = torch.stack([cosine_similarity(head.projection(x), c[None]) for c in columns], dim=1) / temperature
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_gradient_reaches_rows_projection_and_background(rows):
    head = classifier()
    rows.requires_grad_()
    head.set_rows(rows)
    head(torch.randn(3, IN)).logsumexp(1).sum().backward()
    for tensor in (rows, *head.parameters()):
        assert tensor.grad.abs().sum() > 0


def test_empty_batch(rows):
    head = classifier()
    rows.requires_grad_()
    head.set_rows(rows)
    logits = head(torch.zeros(0, IN))
    assert logits.shape == (0, K + 1)
    logits.sum().backward()
    assert all(torch.equal(t.grad, torch.zeros_like(t)) for t in (rows, *head.parameters()))


def test_any_number_of_rows_at_run_time(rows):
    head = classifier(out_features=K + 1)
    for count in (1, 3, K):
        head.set_rows(rows[:count])
        assert head(torch.randn(2, IN)).shape == (2, count + 1)


def test_cosine_is_float32_under_autocast(rows):
    head = classifier(background=False)
    head.set_rows(rows)
    x = rows @ torch.linalg.pinv(head.projection.weight).T  # projects onto the rows: cosines of exactly one
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = head(x)
        embedded = head.projection(x)
    assert embedded.dtype == torch.bfloat16 and logits.dtype == torch.float32
    expected = 100 * normalize(embedded.float(), dim=1) @ rows.T
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-4)


def test_half_model(rows):
    head = classifier().bfloat16()
    head.set_rows(rows)
    assert head(torch.randn(2, IN).bfloat16()).dtype == torch.float32


def test_without_rows(rows):
    head = classifier()
    with pytest.raises(RuntimeError, match=r"has no rows to classify with. Call `set_rows\(rows\)`"):
        head(torch.zeros(1, IN))
    head.set_rows(rows)
    assert head.rows is rows
    head.set_rows(None)
    with pytest.raises(RuntimeError, match="has no rows"):
        head(torch.zeros(1, IN))


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (torch.ones(K, D + 1), ValueError, r"must have shape \[K, 8\], K >= 1. Got \[5, 9\].*`embed_dim`"),
        (torch.ones(2, K, D), ValueError, r"Got \[2, 5, 8\]"),
        (torch.ones(0, D), ValueError, r"K >= 1. Got \[0, 8\]"),
        (torch.ones(K, D, dtype=torch.long), TypeError, "floating tensor .*Got torch.int64"),
        ([[1.0] * D], TypeError, "Got list"),
        (torch.ones(K, D, device="meta"), ValueError, "on its device, cpu. Got meta"),
    ],
    ids=["width", "conditional", "none", "integer", "list", "device"],
)
def test_refused_rows(rows, bad, error, message):
    head = classifier()
    head.set_rows(rows)
    with pytest.raises(error, match=message):
        head.set_rows(bad)
    assert head.rows is rows


@pytest.mark.parametrize("name", ["in_features", "embed_dim", "temperature"])
def test_refused_arguments(name):
    with pytest.raises(ValueError, match=f"`{name}` of TextClassifier must be positive. Got 0"):
        TextClassifier(**{"in_features": IN, "embed_dim": D, name: 0})


def test_rows_are_in_no_state_dict_and_no_copy(rows):
    head = classifier()
    head.set_rows(nn.Parameter(rows) * 1.0)
    assert sorted(head.state_dict()) == ["background", "projection.bias", "projection.weight"]
    head.set_rows(nn.Parameter(rows))
    assert len(list(head.parameters())) == 3
    twin = copy.deepcopy(head)
    assert twin.rows is None and head.rows is not None
    twin.load_state_dict(head.state_dict())
    twin.set_rows(rows)
    x = torch.randn(2, IN)
    torch.testing.assert_close(twin(x), head(x))


class Host(BaseModule):
    """Initialises its classifier the way mmdet's BBoxHead does."""

    def __init__(self, **changes) -> None:
        super().__init__([{"type": "Normal", "std": 100.0, "override": {"name": "fc_cls"}}])
        self.fc_cls = classifier(in_features=64, embed_dim=64, **changes)


def test_host_initialisation_is_undone(rows):
    host = Host()
    weight, background = host.fc_cls.projection.weight.clone(), host.fc_cls.background.clone()
    host.init_weights()
    bound = (6 / 128) ** 0.5  # Xavier, uniform
    for value in (weight, host.fc_cls.projection.weight):
        assert 0.9 * bound < value.abs().max() <= bound
    assert torch.equal(host.fc_cls.projection.bias, torch.zeros(64))
    for value in (background, host.fc_cls.background):
        assert 0.5 < value.norm() < 1.5
    trained = host.fc_cls.projection.weight.clone()
    host.fc_cls.init_weights()
    assert torch.equal(host.fc_cls.projection.weight, trained), "a second call must leave trained weights alone"


def test_own_initialisation_config_comes_last():
    host = Host(init_cfg={"type": "Constant", "val": 0.5, "layer": "Linear"})
    host.init_weights()
    assert torch.equal(host.fc_cls.projection.weight, torch.full((64, 64), 0.5))

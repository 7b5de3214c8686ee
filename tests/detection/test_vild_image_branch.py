"""Embeddings in the image tower's space, and classes by cosine."""

import pytest
import torch
from torch.nn.functional import cosine_similarity, linear, normalize, relu

from subpt_dense.detection import ImageBranch
from subpt_dense.registry import MODELS

C, S, D, K = 4, 3, 8, 5


def branch(**changes) -> ImageBranch:
    torch.manual_seed(0)
    config = {"in_channels": C, "roi_feat_size": S, "embed_dim": D, "fc_channels": 16, "temperature": 0.05}
    return MODELS.build({"type": "subpt_dense.ImageBranch", **config, **changes})


def features(n: int = 6) -> torch.Tensor:
    return torch.randn(n, C, S, S, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def rows() -> torch.Tensor:
    return normalize(torch.randn(K, D, generator=torch.Generator().manual_seed(2)), dim=1)


@pytest.mark.parametrize("num_fcs", [1, 2])
def test_embeddings(num_fcs: int) -> None:
    model = branch(num_fcs=num_fcs)
    x = features().reshape(6, -1)
    for layer in model.fcs:
        x = relu(linear(x, layer.weight, layer.bias))
    x = linear(x, model.projection.weight, model.projection.bias)
    found = model(features())
    assert len(model.fcs) == num_fcs and found.shape == (6, D)
    torch.testing.assert_close(found, x / x.norm(dim=1, keepdim=True))


def test_scores_are_a_softmax_of_cosines_without_background(rows: torch.Tensor) -> None:
    model = branch()
    model.set_rows(rows)
    embeddings = model(features())
    cosines = torch.stack([cosine_similarity(embeddings, row[None]) for row in rows], dim=1)
    scores = model.scores(embeddings)
    torch.testing.assert_close(scores, torch.softmax(cosines / 0.05, dim=1), rtol=1e-4, atol=1e-6)
    assert scores.shape == (6, K)


def test_no_regions(rows: torch.Tensor) -> None:
    model = branch()
    model.set_rows(rows)
    embeddings = model(features(0))
    assert embeddings.shape == (0, D) and model.scores(embeddings).shape == (0, K)
    embeddings.sum().backward()
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in model.parameters())  # zeros, not None: DDP waits


def test_float32_under_autocast(rows: torch.Tensor) -> None:
    model = branch()
    model.set_rows(rows)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = model(features())
        assert embeddings.dtype == model.scores(embeddings).dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(6))


def test_rows_are_no_part_of_it(rows: torch.Tensor) -> None:
    model = branch()
    with pytest.raises(RuntimeError, match="ImageBranch has no rows to classify with"):
        model.scores(model(features()))
    model.set_rows(rows)
    assert {key.split(".")[0] for key in model.state_dict()} == {"fcs", "projection"}


def test_initialisation_stays() -> None:
    model = branch()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.init_weights()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model.projection.weight.abs().max() <= (6 / (16 + D)) ** 0.5  # Xavier's bound


@pytest.mark.parametrize("name", ["in_channels", "roi_feat_size", "num_fcs", "fc_channels", "temperature", "embed_dim"])
def test_arguments_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` of ImageBranch must be positive. Got 0"):
        branch(**{name: 0})


def test_features_of_another_size() -> None:
    with pytest.raises(ValueError, match=r"must have 36 numbers a region, .*Got \[2, 4, 7, 7\]"):
        branch()(torch.zeros(2, C, 7, 7))

"""F-VLM's score fusion against numbers worked out in the test, one proposal and class at a time."""

import copy
import math

import pytest
import torch
from torch.nn.functional import normalize

from subpt_dense.heads import VLMFusion, fuse_log_scores
from subpt_dense.registry import MODELS

N, K, D = 4, 3, 8
BASE = torch.tensor([True, False, True])


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fusion(groups: torch.Tensor | None = BASE, **changes) -> VLMFusion:
    module = MODELS.build({"type": "subpt_dense.VLMFusion", "embed_dim": D, **changes})
    module.set_rows(normalize(random(K, D, seed=1), dim=1))
    if groups is not None:
        module.set_groups(groups)
    return module


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detector logits, unit regions, the background's row."""
    return 3 * random(N, K + 1, seed=2), normalize(random(N, D, seed=3), dim=1), normalize(random(D, seed=4), dim=0)


def softmax(values: list[float]) -> list[float]:
    top = max(values)
    parts = [math.exp(value - top) for value in values]
    return [part / sum(parts) for part in parts]


def by_hand(detector, regions, rows, background, weights, temperature):
    """Probabilities in plain floats: geometric mean per class, the detector's background, made to sum to one."""
    fused = []
    texts = [*rows.tolist(), *([] if background is None else [background.tolist()])]
    for logits, region in zip(detector.tolist(), regions.tolist(), strict=True):
        cosines = [sum(a * b for a, b in zip(region, text, strict=True)) for text in texts]
        det, vlm = softmax(logits), softmax([cosine / temperature for cosine in cosines])
        scores = [det[k] ** (1 - w) * vlm[k] ** w for k, w in enumerate(weights)] + [det[-1]]
        fused.append([score / sum(scores) for score in scores])
    return torch.tensor(fused)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize(("w_base", "w_novel"), [(0.35, 0.65), (0.0, 1.0), (0.5, 0.5)])
def test_probabilities(batch, background, temperature, w_base, w_novel):
    detector, regions, row = batch
    module = fusion(background=background, temperature=temperature, w_base=w_base, w_novel=w_novel)
    found = module(detector, regions, row).softmax(dim=1)
    weights = [w_base, w_novel, w_base]
    expected = by_hand(detector, regions, module.rows, row if background else None, weights, temperature)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


def test_one_case_in_figures():
    """det = (0.5, 0.2, bg 0.3), vlm = (0.1, 0.9): base 0.5^0.65 * 0.1^0.35, novel 0.2^0.35 * 0.9^0.65."""
    detector, vlm = torch.tensor([[0.5, 0.2, 0.3]]).log(), torch.tensor([[0.1, 0.9]]).log()
    found = fuse_log_scores(detector, vlm, torch.tensor([0.35, 0.65])).exp()
    raw = torch.tensor([[0.284663, 0.531641, 0.3]])
    torch.testing.assert_close(found, raw / raw.sum(), atol=1e-5, rtol=0)


def test_the_defaults_are_the_paper_s():
    module = VLMFusion(D)
    assert (module.w_base, module.w_novel, module.temperature, module.background) == (0.35, 0.65, 0.01, True)


def test_weight_zero_leaves_the_detector_alone(batch):
    detector, regions, row = batch
    found = fusion(w_base=0.0, w_novel=0.0)(detector, regions, row).softmax(dim=1)
    torch.testing.assert_close(found, detector.softmax(dim=1))


def test_the_background_is_the_detector_s(batch):
    """Relative to a class that the frozen model has no weight on, it stays what the detector says."""
    detector, regions, row = batch
    found = fusion(w_base=0.0, w_novel=0.9)(detector, regions, row)
    expected = detector.log_softmax(dim=1)
    torch.testing.assert_close(found[:, -1] - found[:, 0], expected[:, -1] - expected[:, 0])


@pytest.mark.parametrize("groups", [None, torch.zeros(K, dtype=torch.bool)], ids=["never told", "none is base"])
def test_without_groups_every_class_weighs_as_novel(batch, groups):
    expected = fusion(torch.zeros(K, dtype=torch.bool), w_base=0.1)(*batch)
    assert torch.equal(fusion(groups, w_base=0.1)(*batch), expected)
    assert not torch.equal(fusion(BASE, w_base=0.1)(*batch), expected)


def test_groups_follow_the_vocabulary(batch):
    """Rows, logits and groups in another order give the same scores in that order."""
    detector, regions, row = batch
    order = [2, 0, 1]
    module, other = fusion(), fusion()
    other.set_rows(module.rows[order])
    other.set_groups(BASE[order])
    found = other(detector[:, [*order, K]], regions, row)
    torch.testing.assert_close(found, module(detector, regions, row)[:, [*order, K]])


def test_certain_scores_stay_finite():
    """A cosine of one at temperature 0.01 puts every other probability under float32's smallest number."""
    module = fusion(background=False)
    module.set_rows(torch.eye(D)[:K])
    module.set_groups(BASE)
    detector = torch.tensor([[0.0, 200.0, -200.0, 0.0], [-300.0, -300.0, -300.0, 300.0]])
    found = module(detector, torch.stack([torch.eye(D)[2], -torch.eye(D)[0]]))
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(2))


def test_computed_in_float32_under_autocast(batch):
    detector, regions, row = batch
    module = fusion()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = module(detector.bfloat16(), regions, row)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, module(detector.bfloat16().float(), regions, row))


def test_no_proposals(batch):
    found = fusion()(torch.zeros(0, K + 1), torch.zeros(0, D), batch[2])
    assert found.shape == (0, K + 1)


def test_copies_and_files(batch):
    module = fusion()
    assert module.state_dict() == {} and not [*module.parameters(), *module.buffers()]
    twin = copy.deepcopy(module)
    with pytest.raises(RuntimeError, match="VLMFusion has no rows to classify with"):
        twin(*batch)
    twin.set_rows(module.rows)
    assert torch.equal(twin(*batch), module(*batch))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("temperature", 0.0, "`temperature` of VLMFusion must be positive. Got 0.0"),
        ("w_base", 1.1, r"`w_base` of VLMFusion must be in \[0, 1\]. Got 1.1"),
        ("w_novel", -0.1, r"`w_novel` of VLMFusion must be in \[0, 1\]. Got -0.1"),
        ("embed_dim", 0, "`embed_dim` of VLMFusion must be positive. Got 0"),
    ],
)
def test_refused_arguments(name, value, message):
    with pytest.raises(ValueError, match=message):
        VLMFusion(**{"embed_dim": D, name: value})


def test_refused_inputs(batch):
    detector, regions, row = batch
    with pytest.raises(TypeError, match=r"`base` of VLMFusion must be a bool tensor \[K\]. Got torch.float32"):
        fusion(BASE.float())
    with pytest.raises(ValueError, match=r"each of the 3 classes of the vocabulary as base or not. Got 2"):
        fusion(BASE[:2])(detector, regions, row)
    with pytest.raises(ValueError, match=r"`detector` of VLMFusion must have 3 \+ 1 columns.*Got 3"):
        fusion()(detector[:, :3], regions, row)
    with pytest.raises(ValueError, match="`background` of VLMFusion must be a row"):
        fusion()(detector, regions)

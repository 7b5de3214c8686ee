"""ConditionalPrompt: CoCoOp against open_clip's own modules, and what every prompt head promises, image by image."""

import copy
import pickle

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, normalize, relu

from subpt_dense.heads import CosineClassifier
from subpt_dense.prompts import ConditionalPrompt, conditional
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec
from tests.prompts.conftest import MORE, NAMES
from tests.text.coop import double, full_length_rows

PARAMETERS = ["context", "meta_in.weight", "meta_in.bias", "meta_out.weight", "meta_out.bias"]


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    drawn = torch.randn(count, 24, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return normalize(drawn, dim=1).to(dtype)


@pytest.fixture
def head(tiny_clip) -> ConditionalPrompt:
    return make(tiny_clip)


def make(tiny_clip, **changes) -> ConditionalPrompt:
    torch.manual_seed(0)
    text = {"model": tiny_clip[0], "pretrained": tiny_clip[1]}
    config = {"type": "subpt_dense.ConditionalPrompt", "text": text, "vocabulary": NAMES, **changes}
    return MODELS.build(config)


def cocoop(clip, parameters: dict[str, Tensor], features: Tensor, names) -> Tensor:
    """CoCoOp the long way: the context of every image, all 77 positions of every class. ``[B, K, D]``."""
    context, *layers = (parameters[name] for name in PARAMETERS)
    shifts = linear(relu(linear(features, *layers[:2])), *layers[2:])
    return torch.stack([full_length_rows(clip, context + shift, names) for shift in shifts])


def gradients(rows: Tensor, weight: Tensor, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad((rows * weight).sum(), list(parameters.values()))
    return dict(zip(parameters, found, strict=True))


def compare(head, clip, features: Tensor, limit: float, slope_limit: float) -> None:
    parameters = head.prompt_parameters()
    weight = images(len(features) * len(head.vocabulary), seed=3, dtype=features.dtype)
    weight = weight.view(len(features), -1, 24)
    rows, wanted = head(features), cocoop(clip, parameters, features, head.vocabulary)
    assert rows.shape == wanted.shape == (len(features), len(head.vocabulary), 24)
    assert (rows - wanted).abs().max() <= limit
    found, slopes = gradients(rows, weight, parameters), gradients(wanted, weight, parameters)
    for name in PARAMETERS:
        assert slopes[name].norm() > 1e-6
        assert (found[name] - slopes[name]).norm() <= slope_limit * slopes[name].norm(), name


@pytest.mark.parametrize("names", [NAMES, ("cat",)], ids=["K=3", "K=1"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_cocoop(head, tiny_clip, names, count):
    head.vocabulary = names
    compare(head, open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval(), images(count), 1e-5, 1e-4)


@pytest.mark.parametrize(
    "way", [{}, {"encoder": "reference"}, {"encoder": "truncated"}, {"max_tokens": 1}], ids=lambda way: str(way)
)
def test_cocoop_in_float64(tiny_clip, monkeypatch, way):
    head = make(tiny_clip, **way).double()
    clip, tower = double(TextSpec(*tiny_clip))
    monkeypatch.setattr(head, "tower", lambda device: tower)
    compare(head, clip, images(2, dtype=torch.float64), 1e-10, 1e-10)


@pytest.mark.parametrize("training", [True, False])
def test_without_a_shift_it_is_coop(tiny_clip, training):
    head, coop = make(tiny_clip).train(training), make(tiny_clip, type="subpt_dense.ContextPrompt", length=4)
    assert torch.equal(head.context, coop.context)
    torch.nn.init.zeros_(head.meta_out.weight), torch.nn.init.zeros_(head.meta_out.bias)
    rows = head(images(2))
    torch.testing.assert_close(rows, coop().expand(2, -1, -1).detach(), rtol=0, atol=1e-6)


def test_each_image_has_its_own_rows(head):
    features = images(3)
    rows = head(features)
    assert head.conditional and rows.shape == (3, 3, 24) and rows.dtype == torch.float32 and rows.requires_grad
    torch.testing.assert_close(rows.norm(dim=2), torch.ones(3, 3))
    assert (rows[0] - rows[1]).abs().max() > 1e-5
    torch.testing.assert_close(rows, torch.cat([head(feature[None]) for feature in features]))
    torch.testing.assert_close(head.eval()(features), rows.detach(), rtol=1e-5, atol=1e-6)
    assert not head(features).requires_grad


@pytest.mark.parametrize("training", [True, False])
def test_no_images(head, training):
    rows = head.train(training)(images(0))
    assert rows.shape == (0, 3, 24) and rows.dtype == torch.float32 and rows.requires_grad == training
    if training:
        rows.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in head.parameters())


@pytest.mark.parametrize(
    ("features", "got"),
    [
        (None, "Got NoneType"),
        (images(2)[:, :8], r"Got torch.float32 \[2, 8\] on cpu"),
        (images(2)[0], r"Got torch.float32 \[24\] on cpu"),
        (images(2).long(), r"Got torch.int64 \[2, 24\]"),
        (images(2).to("meta"), r"Got torch.float32 \[2, 24\] on meta"),
    ],
    ids=["none", "length", "one", "integers", "device"],
)
def test_refused_features(head, features, got):
    message = rf"`image_features` of ConditionalPrompt must be .*\[B, 24\] on cpu: .* depend on the image\. {got}"
    with pytest.raises(ValueError, match=message):
        head(features)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": [{"names": "trained", "templates": "single"}]}, "`anchors` of ConditionalPrompt must be empty.*1"),
        ({"length": 75}, r"`length` of ContextPrompt must be in \[1, 74\]"),
        ({"init_words": "a photo"}, "must be 2, the number of tokens of `init_words`"),
        ({"vocabulary": ("very " * 80,)}, "at most"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_refused_arguments(tiny_clip, changes, message):
    with pytest.raises(ValueError, match=message):
        make(tiny_clip, **changes)


def test_vocabulary_can_wait_and_change(tiny_clip):
    head, other = make(tiny_clip, vocabulary=()), make(tiny_clip)
    with pytest.raises(RuntimeError, match="`vocabulary` of ConditionalPrompt is not set"):
        head(images(1))
    head.vocabulary = NAMES
    torch.testing.assert_close(head(images(2)), other(images(2)))
    head.vocabulary = [*reversed(NAMES), *MORE]
    assert head(images(2)).shape == (2, 5, 24)
    torch.testing.assert_close(head(images(2))[:, :3], other(images(2)).flip(1), rtol=1e-5, atol=1e-6)


def test_the_vocabulary_is_packed_once_and_no_image_is_kept(head, monkeypatch):
    calls = []
    pack = conditional.pack_names
    monkeypatch.setattr(conditional, "pack_names", lambda *args: calls.append(args[1]) or pack(*args))
    for training in (True, False, True):
        first = head.train(training)(images(2))
        assert not torch.equal(head(images(2, seed=1)), first)
    assert calls == [NAMES]
    head.vocabulary = MORE
    head(images(1))
    assert calls == [NAMES, MORE]


def test_all_that_is_learned_learns(head):
    assert list(head.prompt_parameters()) == PARAMETERS == list(dict(head.named_parameters()))
    features = images(2).requires_grad_()
    (head(features) @ torch.rand(24)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    assert features.grad is None
    assert not any(p.requires_grad or p.grad is not None for p in head.tower(torch.device("cpu")).modules.parameters())
    assert head.auxiliary_losses() == {}


@pytest.mark.parametrize("frozen", [("context",), tuple(PARAMETERS[1:]), tuple(PARAMETERS)], ids=lambda f: f[0])
def test_frozen_parts(head, frozen):
    for name in frozen:
        head.get_parameter(name).requires_grad_(False)
    assert head(images(1)).requires_grad == (len(frozen) < 5)


def test_state_dict(head, tiny_clip):
    head(images(2)), head.eval()(images(2))
    assert sorted(head.state_dict()) == sorted([*PARAMETERS, "initial_context"])
    assert list(head.buffers()) == [head.initial_context]
    other = make(tiny_clip)
    for parameter in head.parameters():
        parameter.data.normal_()
    assert not torch.allclose(other.eval()(images(2)), head(images(2)))
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(images(2)), head(images(2)), rtol=0, atol=0)
    assert head.displacement() > 0


def test_deepcopy_and_pickle(head):
    rows = head(images(2))
    twin, data = copy.deepcopy(head), pickle.dumps(head)
    assert len(data) < 20_000
    for again in (twin, pickle.loads(data)):
        torch.testing.assert_close(again(images(2)), rows)
        assert again.identity() == head.identity() and again.vocabulary == NAMES
    twin.context.data.zero_()
    torch.testing.assert_close(head(images(2)), rows)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str
)
def test_rows_stay_float32(head, dtype, tolerance):
    rows = head(images(2))
    again = head.to(dtype)(images(2))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, rows, rtol=0, atol=tolerance)
    again.sum().backward()
    assert all(p.grad.dtype == dtype for p in head.parameters())


def test_autocast_does_not_change_rows(head):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = head(images(2))
    torch.testing.assert_close(head(images(2)), rows, rtol=0, atol=0)


def test_inference_mode(head):
    with torch.inference_mode():
        features = images(2)
        kept = head.eval()(features)
    head.train()(features).sum().backward()
    assert head.context.grad.any() and head.meta_in.weight.grad.any()
    weight = torch.ones(24, requires_grad=True)
    (kept @ weight).sum().backward()
    assert weight.grad is not None


def test_identity(head, tiny_clip, plain):
    identity = head.identity()
    assert plain(identity) == identity
    assert identity["type"] == "ConditionalPrompt" and identity["meta_units"] == 1 and identity["anchors"] == []
    assert make(tiny_clip, length=3).identity() != identity


def test_a_classifier_takes_its_rows(head):
    classifier, features = CosineClassifier(24, scale=10.0), images(2)
    classifier.set_rows(head(features))
    logits = classifier(features)
    expected = 10 * torch.stack([row @ feature for row, feature in zip(head(features), features, strict=True)])
    torch.testing.assert_close(logits, expected)


@pytest.mark.gpu
def test_head_follows_the_model_to_another_device(head):
    rows = head.eval()(images(2))
    moved = head.cuda()(images(2).cuda())
    assert moved.is_cuda
    torch.testing.assert_close(moved.cpu(), rows, rtol=1e-4, atol=1e-4)

"""Properties of the method: what reduces to what, against references written here with open_clip alone."""

import open_clip
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from subpt_dense.heads import CosineClassifier
from subpt_dense.losses import TextAnchor
from subpt_dense.prompts import context as context_module
from subpt_dense.text import get_templates
from tests.prompts.conftest import MORE, NAMES


@pytest.fixture(scope="module")
def clip(tiny_clip):
    model, weights = tiny_clip
    return open_clip.create_model(model, pretrained=weights).eval(), open_clip.get_tokenizer(model)


def zero_shot(clip, names, templates) -> Tensor:
    model, tokenizer = clip
    with torch.no_grad():
        rows = [model.encode_text(tokenizer([t.format(n) for n in names]), normalize=True) for t in templates]
    return normalize(torch.stack(rows).mean(0), dim=-1)


def coop(clip, context: Tensor, names) -> Tensor:
    """CoOp's features the long way: placeholders are replaced by the context, all 77 positions are encoded."""
    model, tokenizer = clip
    length = len(context)
    tokens = tokenizer([" ".join(["X"] * length) + f" {name}." for name in names])
    embedded = model.token_embedding(tokens)
    prompts = torch.cat([embedded[:, :1], context.expand(len(names), -1, -1), embedded[:, 1 + length :]], dim=1)
    hidden = model.transformer(prompts + model.positional_embedding, attn_mask=model.attn_mask)
    ends = model.ln_final(hidden)[torch.arange(len(names)), tokens.argmax(-1)]
    return normalize(ends @ model.text_projection, dim=-1)


def anchored(clip, context: Tensor, names, templates) -> Tensor:
    return (1 - torch.cosine_similarity(coop(clip, context, names), zero_shot(clip, names, templates), dim=-1)).mean()


def train(head, steps: int = 3) -> Tensor:
    """A few SGD steps of a stand-in for the host's loss, auxiliary losses added as a host does."""
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    direction = torch.randn(24, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        loss = (head() @ direction).logsumexp(0) + sum(head.auxiliary_losses().values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.context.detach()


@pytest.mark.parametrize("templates", ["single", "toy"])
def test_no_learned_context_is_zero_shot_clip(build, clip, templates):
    expected = zero_shot(clip, NAMES, get_templates(templates))
    torch.testing.assert_close(build("template", templates=templates)(), expected, rtol=0, atol=1e-6)


def test_untrained_words_are_zero_shot_clip(build, clip):
    rows = build("context-words").eval()()
    torch.testing.assert_close(rows, zero_shot(clip, NAMES, ["a photo of a {}."]), rtol=0, atol=1e-6)


def test_context_is_coop(build, clip):
    head = build("context")
    weight = torch.randn(3, 24)
    rows = coop(clip, head.context, NAMES)
    (expected,) = torch.autograd.grad((rows * weight).sum(), head.context)
    torch.testing.assert_close(head(), rows, rtol=0, atol=1e-6)
    (head() * weight).sum().backward()
    torch.testing.assert_close(head.context.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture
def batches(monkeypatch) -> list[tuple[str, ...]]:
    """The names of every batch behind a learned context."""
    seen = []
    encode = context_module.encode_context

    def recorded(tower, context, tokens, **options):
        seen.append(tokens.names)
        return encode(tower, context, tokens, **options)

    monkeypatch.setattr(context_module, "encode_context", recorded)
    return seen


@pytest.mark.parametrize("names", ["trained", ["wolf", "zebra"]], ids=["trained", "extra"])
def test_weight_zero_is_coop_to_the_bit(build, batches, names):
    anchor = {"names": names, "templates": "single", "weight": 0.0}
    head = build("context", anchors=[anchor])
    assert torch.equal(train(head), train(build("context")))
    head()
    assert {key: loss.item() for key, loss in head.auxiliary_losses().items()} == {"loss_nfl": 0.0}
    assert set(batches) == {NAMES}, "names without weight must cost nothing"


@pytest.mark.parametrize("names", ["trained", list(NAMES)], ids=["trained", "listed"])
def test_trained_names_with_weight_8_are_kgcoop(build, clip, names):
    anchor = {"names": names, "templates": "single", "weight": 8.0, "name": "kgcoop"}
    head = build("context", anchors=[anchor])
    expected = 8.0 * anchored(clip, head.context, NAMES, ["a photo of a {}."])
    (gradient,) = torch.autograd.grad(expected, head.context)
    head()
    loss = head.auxiliary_losses()["loss_kgcoop"]
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(head.context.grad, gradient, rtol=1e-4, atol=1e-5)
    assert not torch.equal(train(head), train(build("context")))


def test_a_step_of_kgcoop(build, clip):
    """Loss, gradient and context after a step equal KgCoOp's: cross-entropy + 8 (1 - mean cos)."""
    anchor = {"names": "trained", "templates": "single", "weight": 8.0, "name": "kg"}
    head, classifier = build("context", anchors=[anchor]), CosineClassifier(24, scale=10.0)
    features = normalize(torch.randn(4, 24, generator=torch.Generator().manual_seed(1)), dim=1)
    labels = torch.tensor([0, 2, 1, 1])

    context = head.context.detach().clone().requires_grad_()
    learned, frozen = coop(clip, context, NAMES), zero_shot(clip, NAMES, ["a photo of a {}."])
    score = torch.cosine_similarity(learned, frozen, dim=1).mean()
    expected = cross_entropy(10 * features @ learned.T, labels) + 8 * (1 - score)
    (gradient,) = torch.autograd.grad(expected, context)

    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    classifier.set_rows(head())
    loss = cross_entropy(classifier(features), labels) + sum(head.auxiliary_losses().values())
    loss.backward()
    optimizer.step()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(head.context.grad, gradient, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(head.context, context - 0.1 * gradient, rtol=1e-5, atol=1e-6)


def test_extra_names_with_templates_are_nfl(build, clip):
    head = build("nfl")
    head()
    expected = anchored(clip, head.context, ["lynx", "wolf"], get_templates("toy"))
    torch.testing.assert_close(head.auxiliary_losses()["loss_nfl"], expected, rtol=1e-5, atol=1e-6)


def test_each_name_is_encoded_once_and_all_in_one_batch(build, batches):
    anchors = [
        {"names": ["Dog", "lynx", "wolf"], "templates": "single", "name": "a"},
        {"names": ["traffic_light", "Lynx"], "templates": "single", "name": "b"},
        {"names": "trained", "templates": "single", "name": "c"},
    ]
    head = build("context", anchors=anchors)
    rows = head()
    assert batches == [(*NAMES, "lynx", "wolf")] and rows.shape[0] == 3
    targets = build("template", vocabulary=("dog", "lynx", "wolf", "traffic light"))()
    features = build("context", vocabulary=("dog", "lynx", "wolf", "traffic light"))()
    distance = 1 - (features * targets).sum(1)
    losses = head.auxiliary_losses()
    torch.testing.assert_close(losses["loss_a"], distance[:3].mean(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses["loss_b"], distance[[3, 1]].mean(), rtol=1e-5, atol=1e-6)
    head.eval()()
    assert batches[1:] == [("dog", "lynx", "wolf", "traffic light"), NAMES], "in eval the anchors cost nothing"


def test_validation_does_not_cost_the_targets_again(build, monkeypatch):
    calls = []
    targets = TextAnchor.targets
    monkeypatch.setattr(TextAnchor, "targets", lambda *args: calls.append(1) or targets(*args))
    head = build("nfl")
    for _ in range(2):
        head.train()
        head.vocabulary = NAMES
        head(), head()
        head.eval()
        head.vocabulary = [*NAMES, *MORE]
        head()
    assert len(calls) == 1


def test_trained_anchor_follows_the_vocabulary(build):
    head = build("nfl-kgcoop", anchors=[{"names": "trained", "templates": "single"}])
    head()
    first = head.auxiliary_losses()["loss_nfl"]
    head.vocabulary = MORE
    head()
    assert head.auxiliary_losses()["loss_nfl"] != first


def test_weight_may_change_between_steps(build):
    head = build("nfl", anchors=[{"names": ["lynx"], "templates": "single", "weight": 0.0}])
    head()
    assert head.auxiliary_losses()["loss_nfl"] == 0
    head.anchors[0].weight = 2.0
    head()
    twice = head.auxiliary_losses()["loss_nfl"]
    head.anchors[0].weight = 1.0
    head()
    torch.testing.assert_close(twice, 2 * head.auxiliary_losses()["loss_nfl"])


def test_l1_is_the_mean_absolute_difference(build):
    head = build("context", anchors=[{"names": "trained", "templates": "toy", "metric": "l1", "weight": 25.0}])
    rows = head()
    expected = 25 * (rows - build("templates")()).abs().mean()
    torch.testing.assert_close(head.auxiliary_losses()["loss_nfl"], expected)

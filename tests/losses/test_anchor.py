import json

import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from subpt_dense.losses import TextAnchor
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, encode_templates, get_tower, load_tower


@pytest.fixture(scope="module")
def tower(tiny_clip):
    return get_tower(load_tower(TextSpec(*tiny_clip)), "cpu")


def unit(count: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(count, 24, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("weight", [0.5, 8])
@pytest.mark.parametrize(
    ("metric", "reference"),
    [
        ("cosine", lambda f, t: (1 - cosine_similarity(f, t)).mean()),
        ("l1", lambda f, t: torch.nn.functional.l1_loss(f, t)),
    ],
)
def test_loss(metric, reference, weight):
    anchor = MODELS.build({"type": "subpt_dense.TextAnchor", "names": "trained", "templates": "single"})
    anchor.metric, anchor.weight = metric, weight
    features, targets = unit(5, 0).requires_grad_(), unit(5, 1)
    loss = anchor(features, targets)
    torch.testing.assert_close(loss, weight * reference(features, targets))
    loss.backward()
    assert features.grad.abs().sum() > 0
    torch.testing.assert_close(anchor(targets, targets), torch.tensor(0.0), rtol=0, atol=1e-5)


def test_loss_is_float32_everywhere():
    anchor = TextAnchor("trained", "single")
    features, targets = unit(5, 0), unit(5, 1)
    expected = anchor(features, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(anchor(features, targets), expected)
    assert anchor(features.half(), targets).dtype == torch.float32


def test_targets(tower):
    anchor = TextAnchor(["cat", "traffic_light"], "toy")
    targets = anchor.targets(tower, ("dog",))
    assert anchor.names_for(("dog",)) == ("cat", "traffic_light")
    assert torch.equal(targets, encode_templates(tower, ["cat", "traffic light"], "toy")) and not targets.requires_grad
    trained = TextAnchor("trained", "single")
    assert trained.names is None and trained.names_for(("dog", "cat")) == ("dog", "cat")
    assert torch.equal(trained.targets(tower, ("dog",)), encode_templates(tower, ["dog"], "single"))


def test_nothing_is_learned_or_saved(tower):
    anchor = TextAnchor(["cat"], "single")
    anchor.targets(tower)
    assert not list(anchor.parameters()) and not anchor.state_dict()


SPLIT = {"name": "tiny", "base": ["cat", "dog"], "novel": ["wolf", "fox"]}


@pytest.fixture
def split(tmp_path) -> str:
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(SPLIT))
    return str(path)


def test_generic_names_without_the_evaluated_ones(split, tmp_path):
    (tmp_path / "nouns.txt").write_text("Wolf\nprairie dog\nzebra\nlynx\n")
    anchor = TextAnchor({"vocabulary": str(tmp_path / "nouns.txt"), "exclude": split}, "single")
    assert anchor.names == ("zebra", "lynx") and anchor.kind == "generic"
    assert anchor.summary()["excluded"] == "tiny.json" and anchor.summary()["num_names"] == 2
    listed = TextAnchor({"vocabulary": str(tmp_path / "nouns.txt"), "exclude": ["lynx"]}, "single")
    assert listed.summary()["excluded"] == "1 listed"


@pytest.mark.parametrize(
    ("names", "kind", "expected"),
    [
        ("trained", None, "trained"),
        ("trained", "trained", "trained"),
        (["lynx"], None, "generic"),
        (["wolf"], "heldout", "heldout"),
        ({"group": "novel"}, None, "heldout"),
        ({"group": "all"}, None, "heldout"),
        ({}, None, "heldout"),
        ({"group": "base"}, None, "trained"),
    ],
)
def test_kind(names, kind, expected, split):
    anchor = TextAnchor({"split": split, **names} if isinstance(names, dict) else names, "single", kind=kind)
    assert anchor.kind == expected == anchor.summary()["kind"]
    assert (anchor.names is None) == (names == "trained")


@pytest.mark.parametrize(
    ("names", "kind", "allowed"),
    [
        ({"group": "novel"}, "generic", "'heldout'"),
        ("trained", "generic", "'trained'"),
        (["lynx"], "trained", "'generic' or 'heldout'"),
        (["lynx"], "nfl", "'generic' or 'heldout'"),
    ],
)
def test_kind_must_not_hide_what_is_known(names, kind, allowed, split):
    names = {"split": split, **names} if isinstance(names, dict) else names
    with pytest.raises(ValueError, match=f"`kind` of TextAnchor 'nfl' must be {allowed} .*Got '{kind}'"):
        TextAnchor(names, "single", kind=kind)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": -1.0}, "`weight` of TextAnchor 'nfl' must be >= 0. Got -1.0"),
        ({"weight": float("nan")}, "`weight` of TextAnchor 'nfl' must be >= 0"),
        ({"metric": "l2"}, "`metric` of TextAnchor 'nfl' must be one of cosine, l1. Got 'l2'"),
        ({"name": "a b"}, "`name` of TextAnchor must be an identifier.*'a b'"),
        ({"names": []}, "at least one"),
        ({"names": ["cat", "Cat"]}, "distinct"),
        ({"names": "learned"}, "learned"),
        ({"names": ["cat"], "templates": "unknown"}, "`templates` must be one of"),
        ({"names": ["cat"], "templates": ["a photo"]}, "exactly one {}"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        TextAnchor(**{"names": "trained", "templates": "single", **changes})


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"the targets' shape \[3, 24\]. Got \[2, 24\]"):
        TextAnchor("trained", "single")(unit(2, 0), unit(3, 0))


def test_summary_tells_anchors_apart():
    summary = TextAnchor(["lynx"], "toy").summary()
    assert {"name", "kind", "weight", "num_names"} <= summary.keys()
    others = [
        TextAnchor(["fox"], "toy"),
        TextAnchor(["lynx"], ["a {}."]),
        TextAnchor(["lynx"], "toy", weight=2.0),
        TextAnchor(["lynx"], "toy", metric="l1"),
        TextAnchor(["lynx"], "toy", name="other"),
        TextAnchor(["lynx"], "toy", kind="heldout"),
        TextAnchor("trained", "toy"),
    ]
    assert all(other.summary() != summary for other in others)
    assert "kind='generic'" in repr(TextAnchor(["lynx"], "toy"))

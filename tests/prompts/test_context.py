"""ContextPrompt and TemplatePrompt: what they refuse, what they record."""

import pytest
import torch

from subpt_dense.prompts import TemplatePrompt
from subpt_dense.prompts import context as context_module
from subpt_dense.text import shared_prefix as shared_prefix_module
from tests.prompts.conftest import KGCOOP, MORE, NAMES, NFL
from tests.tiny_clip import write_tiny_clip

LONG = "very " * 80 + "long"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 0}, r"`length` of ContextPrompt must be in \[1, 74\] .* 77 positions\. Got 0\."),
        ({"length": 75}, r"in \[1, 74\] .* Got 75\."),
        ({"length": 73}, "'traffic light'.*Shorten the name or the context"),
        ({"length": 5, "init_words": "a photo of a"}, "`length` of ContextPrompt must be 4, .*'a photo of a'.* Got 5"),
        ({"init_std": 0.0}, "`init_std` of ContextPrompt must be positive"),
        ({"vocabulary": ("cat", LONG)}, "at most 72 tokens"),
        ({"vocabulary": ("cat", LONG), "position": "front"}, "at most 72 tokens"),
        ({"position": "back"}, "`position` of ContextPrompt must be one of 'end', 'middle', 'front'. Got 'back'."),
        ({"encoder": "fast"}, "`encoder` of ContextPrompt must be one of 'auto', .*Got 'fast'."),
        (
            {"encoder": "shared_prefix", "position": "front"},
            "`encoder` of ContextPrompt must be .*names stand at the front. Got 'shared_prefix'",
        ),
        ({"max_tokens": 0}, "`max_tokens` of ContextPrompt must be an integer >= 1, or None. Got 0."),
        ({"max_tokens": 0.5}, "Got 0.5."),
        ({"anchors": [{"names": ["cat", LONG], "templates": "single"}]}, "at most 72 tokens"),
        ({"anchors": [NFL, NFL]}, "anchors must differ, one loss each. Got nfl, nfl"),
        ({"anchors": [{"names": ["cat"], "templates": ["very " * 74 + "{}."]}]}, "at most 77 tokens"),
        ({"anchors": [{"names": "trained", "templates": ["very " * 74 + "{}."]}]}, "at most 77 tokens"),
        ({"text": {"model": "tiny"}}, r"`text` of ContextPrompt must be dict\(model.*Got keys \['model'\]"),
        ({"text": {"model": "tiny", "pretrained": "x", "device": "cpu"}}, "Got keys .*'device'"),
        ({"text": "tiny"}, "`text` of ContextPrompt must be dict"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_refusals_come_before_training(build, changes, message):
    with pytest.raises(ValueError, match=message):
        build("context", **changes)


def test_template_too_long_for_a_name(build):
    with pytest.raises(ValueError, match="at most 77 tokens"):
        build("template", templates=["{}.", "very " * 73 + "{}."])
    head = build("template")
    with pytest.raises(ValueError, match="at most 77 tokens"):
        head.vocabulary = ("cat", LONG)
    assert head.vocabulary == NAMES


@pytest.mark.parametrize("kind", ["context", "template"])
def test_missing_or_wrong_weights(build, tiny_clip, tmp_path, kind):
    model, weights = tiny_clip
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        build(kind, text={"model": model, "pretrained": str(tmp_path / "nowhere.pt")})
    damaged = tmp_path / "damaged.safetensors"
    with open(weights, "rb") as whole:
        damaged.write_bytes(whole.read(100_000))
    with pytest.raises(ValueError, match=r"damaged\.safetensors"):
        build(kind, text={"model": model, "pretrained": str(damaged)})


def test_other_weights_are_another_identity(build, tmp_path):
    model, weights = write_tiny_clip(tmp_path, seed=1)
    other = build("context", text={"model": model, "pretrained": weights})
    assert other.identity()["weights_hash"] != build("context").identity()["weights_hash"]


def test_low_precision_tower_keeps_a_float32_context(build, tiny_clip):
    text = {"model": tiny_clip[0], "pretrained": tiny_clip[1], "precision": "bf16"}
    head = build("context", text=text)
    rows = head()
    assert head.context.dtype == rows.dtype == torch.float32
    torch.testing.assert_close(rows, build("context")(), rtol=0, atol=5e-2)
    rows.sum().backward()
    assert head.context.grad.dtype == torch.float32
    assert head.identity()["precision"] == "bf16"


def test_initial_context(build):
    head = build("context", length=16, init_std=0.5)
    assert head.context.shape == (16, 32) and head.context.dtype == torch.float32
    assert head.context.std().item() == pytest.approx(0.5, rel=0.15)
    assert head.displacement() == 0.0
    head.context.data += 0.25
    assert head.displacement() == pytest.approx(0.25 * (16 * 32) ** 0.5)
    resumed = build("context", length=16)
    resumed.load_state_dict(head.state_dict())
    assert resumed.displacement() == pytest.approx(head.displacement())


def test_another_length_does_not_load(build):
    with pytest.raises(RuntimeError, match="size mismatch for context"):
        build("context").load_state_dict(build("nfl").state_dict())


def test_losses_are_due_once(build):
    head = build("nfl")
    due = "must follow a `forward\\(\\)` in training, once"
    with pytest.raises(RuntimeError, match=due):
        head.auxiliary_losses()
    head()
    head.auxiliary_losses()
    with pytest.raises(RuntimeError, match=due):
        head.auxiliary_losses()
    head()
    head.eval()()
    with pytest.raises(RuntimeError, match=due):
        head.train().auxiliary_losses()
    head()
    head.vocabulary = ("zebra",)
    with pytest.raises(RuntimeError, match=due):
        head.auxiliary_losses()


def test_losses_release_their_features(build):
    head = build("nfl")
    head()
    graph = head._due.get().features["nfl"].grad_fn
    assert graph is not None
    head.auxiliary_losses()
    assert head._due.get() is None


def test_anchors_in_identity(build):
    summary = build("nfl-kgcoop").identity()["anchors"]
    nfl, kgcoop = summary
    assert (nfl["name"], nfl["kind"], nfl["num_names"], nfl["weight"]) == ("nfl", "generic", 2, 1.0)
    assert (kgcoop["name"], kgcoop["kind"], kgcoop["weight"]) == ("kgcoop", "trained", 8.0)
    other = build("nfl-kgcoop", anchors=[{**NFL, "names": ["lynx", "fox"]}, KGCOOP]).identity()["anchors"]
    assert other[0] != nfl and other[1] == kgcoop


@pytest.mark.parametrize("spelling", ["zebra", "ZEBRA", "grey_owl"])
def test_generic_anchors_know_no_evaluated_name(build, spelling):
    head = build("nfl", anchors=[{"names": ["zebra", "grey owl"], "templates": "single"}])
    head.check_evaluated(["red panda", "owl"])
    with pytest.raises(ValueError, match=r"generic TextAnchor 'nfl' must hold no evaluated name. Got (zebra|grey owl)"):
        head.check_evaluated(["red panda", spelling])
    told = build("nfl", anchors=[{"names": ["zebra", "grey owl"], "templates": "single", "kind": "heldout"}])
    told.check_evaluated(["red panda", spelling])


def test_head_is_found_without_the_scope(tiny_clip):
    head = TemplatePrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, vocabulary=["cat"])
    assert head().shape == (1, 24)


@pytest.mark.parametrize("changes", [{"max_tokens": 5}, {"encoder": "truncated"}, {"encoder": "reference"}], ids=str)
def test_how_rows_are_encoded_changes_nothing_else(build, changes, monkeypatch):
    asked = []
    encode = context_module.encode_context
    monkeypatch.setattr(context_module, "encode_context", lambda *a, **k: asked.append(k) or encode(*a, **k))
    found = []
    for head in (build("nfl"), build("nfl", **changes)):
        asked.clear()
        rows = head()
        (rows.sum() + sum(head.auxiliary_losses().values())).backward()
        found.append((rows.detach(), head.context.grad, head.eval()(), head.identity()))
    assert len(asked) == 2 and all(changes.items() <= options.items() for options in asked)
    for ours, usual, atol in zip(found[1][:3], found[0][:3], (1e-6, 1e-5, 1e-6), strict=True):
        torch.testing.assert_close(ours, usual, atol=atol, rtol=1e-4)
    assert found[0][3] == found[1][3]


@pytest.mark.parametrize("position", ["middle", "front"])
def test_where_the_name_stands(build, position):
    head, usual = build("context", position=position), build("context")
    assert head.identity()["position"] == position and usual.identity()["position"] == "end"
    head().sum().backward()
    assert (head() - usual()).abs().max() > 1e-3 and head.context.grad.abs().sum() > 0
    torch.testing.assert_close(head.eval()(), head.train()(), atol=1e-6, rtol=0)


def test_a_new_vocabulary_does_not_cost_the_context_again(build, monkeypatch):
    calls = []
    embed = shared_prefix_module._embed_prefix
    head = build("context").eval()
    head()  # with its checks
    wanted = {names: build("context", vocabulary=names)() for names in (MORE, (*NAMES, *MORE))}
    monkeypatch.setattr(shared_prefix_module, "_embed_prefix", lambda *a: calls.append(1) or embed(*a))
    for names, rows in wanted.items():
        head.vocabulary = names
        torch.testing.assert_close(head(), rows, atol=1e-6, rtol=0)
    assert not calls
    head.context.data.add_(0.1)
    rows = head()
    assert len(calls) == 1
    torch.testing.assert_close(rows, head.train()(), atol=1e-6, rtol=0)


def test_a_vocabulary_is_packed_and_checked_once(build, monkeypatch):
    packed = []
    pack = context_module.pack_names
    monkeypatch.setattr(context_module, "pack_names", lambda *a: packed.append(a[1]) or pack(*a))
    head = build("context").eval()
    for _ in range(3):
        head.context.data.add_(0.1)
        head()
    assert packed == [NAMES]


def test_other_ways_are_other_rows(build):
    head = build("context").eval()
    rows = head()
    head.encoder = "reference"
    assert head() is not rows and head() is head()
    torch.testing.assert_close(head(), rows, atol=1e-6, rtol=0)

"""LearnedPrompt: the rows of the head that was saved, for any names; other models, names and files refused."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger

from subpt_dense.datasets import get_split
from subpt_dense.heads import complete_prompt
from subpt_dense.prompts import ConditionalPrompt, ContextPrompt, LearnedPrompt, load_prompt, save_prompt, save_rows
from subpt_dense.prompts.sealed import read_sealed, write_sealed
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec
from tests.prompts.conftest import MORE, NAMES
from tests.tiny_clip import tiny_config, write_tiny_clip

RUN = {"seed": 3, "commit": "abc1234", "protocol": "toy", "scores": {"base": 1.0}, "subspace": {"rank": 2}, "epoch": 9}
HELDOUT = {"names": ["zebra", "lynx"], "templates": "single", "kind": "heldout", "name": "held"}


@pytest.fixture(scope="session")
def text(tiny_clip: tuple[str, str]) -> dict[str, str]:
    return {"model": tiny_clip[0], "pretrained": tiny_clip[1]}


def make_head(text: dict[str, str], **changes: Any) -> ContextPrompt:
    torch.manual_seed(0)
    head = ContextPrompt(text, **{"length": 4, "vocabulary": NAMES, **changes})
    head.context.data.add_(0.1 * torch.randn_like(head.context))
    return head


@pytest.fixture
def saved(text: dict[str, str], tmp_path: Path) -> tuple[ContextPrompt, str]:
    head, path = make_head(text), tmp_path / "prompt.safetensors"
    save_prompt(path, head, facts=RUN)
    return head.eval(), str(path)


def save_with(text: dict[str, str], tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "other.safetensors"
    save_prompt(path, make_head(text, **changes))
    return str(path)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_rows_of_any_names_are_those_of_the_saved_head(text: dict[str, str], tmp_path: Path, position: str) -> None:
    head = make_head(text, position=position).eval()
    save_prompt(tmp_path / "a.safetensors", head)
    learned = LearnedPrompt(tmp_path / "a.safetensors", text)
    for names in (NAMES, (*MORE, "a name nobody has trained")):
        head.vocabulary = learned.vocabulary = names
        torch.testing.assert_close(learned(), head(), rtol=0, atol=0)
    assert learned.displacement() == head.displacement() > 0


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_learned(saved: tuple[ContextPrompt, str], text: dict[str, str], training: bool) -> None:
    learned = LearnedPrompt(saved[1], text, vocabulary=NAMES).train(training)
    assert learned() is learned() and not learned().requires_grad
    assert learned.prompt_parameters() == {} == learned.state_dict() == learned.auxiliary_losses()
    assert not list(learned.parameters()) and not learned.context.requires_grad


def test_the_task_fills_in_the_tower(saved: tuple[ContextPrompt, str], text: dict[str, str]) -> None:
    """One line of a config: type and file."""
    config = {"type": "subpt_dense.LearnedPrompt", "file": saved[1]}
    language = {"text": text, "templates": "toy", "names": {"generic": ["wolf"], "heldout": ["lynx"]}}
    learned = MODELS.build(complete_prompt(config, language))
    learned.vocabulary = NAMES
    torch.testing.assert_close(learned(), saved[0](), rtol=0, atol=0)


def test_identity_says_where_it_comes_from(saved: tuple[ContextPrompt, str], text: dict[str, str]) -> None:
    head, path = saved
    identity = LearnedPrompt(path, TextSpec(**text)).identity()
    assert json.loads(json.dumps(identity)) == identity
    theirs = json.loads(json.dumps(head.identity()))
    assert {key: value for key, value in identity.items() if key in theirs} == theirs | {"type": "LearnedPrompt"}
    assert identity["file"] == "prompt.safetensors" and len(identity["context_sha256"]) == 64
    origin = {key: value for key, value in identity["origin"].items() if key != "trained_sha256"}
    facts = {key: RUN.get(key) for key in ("seed", "commit", "protocol", "config", "subspace", "epoch", "iteration")}
    assert origin == {"type": "ContextPrompt", "trained_names": 3, **facts}


def test_identity_tells_contexts_apart(saved: tuple[ContextPrompt, str], text: dict[str, str], tmp_path: Path) -> None:
    first = LearnedPrompt(saved[1], text).identity()
    saved[0].context.data[0, 0] += 1e-3
    save_prompt(tmp_path / "again" / "prompt.safetensors", saved[0], facts=RUN)
    second = LearnedPrompt(tmp_path / "again" / "prompt.safetensors", text).identity()
    assert {key for key in first if first[key] != second[key]} == {"context_sha256"}


def test_expectations_that_are_met(saved: tuple[ContextPrompt, str], text: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("# trained\nDog\ntraffic_light\ncat\n")
    for names in (list(reversed(NAMES)), str(tmp_path / "names.txt")):
        assert LearnedPrompt(saved[1], text, names=names, length=4, position="end").length == 4


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"length": 16}, r"length: the file has 4, this model 16\."),
        ({"position": "front"}, r"position: the file has 'end', this model 'front'\."),
        (
            {"names": ["cat", "dog", "wolf", "zebra"]},
            r"must be the 3 with which .*prompt.safetensors was trained. Got 4; only in the file: 'traffic light'; "
            r"only in `names`: 'wolf', 'zebra'\.",
        ),
        ({"names": list(NAMES[:2])}, r"only in the file: 'dog'; only in `names`: none\."),
        ({"names": {"split": "coco_ovd", "group": "base"}}, r"Got 48; .*only in `names`: '\w+', .* \.\.\.\."),
    ],
)
def test_expectations_that_are_not(
    saved: tuple[ContextPrompt, str], text: dict[str, str], asked: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LearnedPrompt(saved[1], text, **asked)


def test_another_backbone_is_refused(saved: tuple[ContextPrompt, str], text: dict[str, str], tmp_path: Path) -> None:
    """Before its weights are looked for."""
    other = {"model": "ViT-B-32-quickgelu", "pretrained": str(tmp_path / "none.pt")}
    message = rf"learned on '{text['model']}' .*backbone: the file has '{text['model']}', this model 'ViT-B-32-quickge"
    for spec in (other, TextSpec(**other)):
        with pytest.raises(ValueError, match=message):
            LearnedPrompt(saved[1], spec)


def test_other_weights_are_refused(saved: tuple[ContextPrompt, str], text: dict[str, str], tmp_path: Path) -> None:
    _, weights = write_tiny_clip(tmp_path, seed=1)  # another model's name, the same shapes
    mine = saved[0].key.weights_hash
    with pytest.raises(
        ValueError, match=rf"weights_hash: the file has '{mine}', this model '(?!{mine})[0-9a-f]{{64}}'\."
    ):
        LearnedPrompt(saved[1], {**text, "pretrained": weights})


def test_another_width_is_refused(text: dict[str, str], saved: tuple[ContextPrompt, str], tmp_path: Path) -> None:
    """A model that goes by the same name."""
    name, weights = write_tiny_clip(tmp_path, config=tiny_config(width=16))
    tensors, metadata = read_sealed(saved[1], kind="subpt_dense.prompt", version="1")
    metadata["identity"] = json.dumps(json.loads(metadata["identity"]) | {"backbone": name})
    write_sealed(saved[1], tensors, metadata, kind="subpt_dense.prompt", version="1")
    with pytest.raises(ValueError, match=r"weights_hash: .*; width: the file has 32, this model 16\."):
        LearnedPrompt(saved[1], {"model": name, "pretrained": weights})


def test_a_head_that_cannot_be_rebuilt_is_refused(text: dict[str, str], tmp_path: Path) -> None:
    save_prompt(tmp_path / "a.safetensors", ConditionalPrompt(text, vocabulary=NAMES))
    message = (
        "must come from ContextPrompt. .*a.safetensors comes from ConditionalPrompt, with the parameters .*meta_in"
    )
    with pytest.raises(ValueError, match=message):
        LearnedPrompt(tmp_path / "a.safetensors", text)


def test_other_files_are_refused(saved: tuple[ContextPrompt, str], text: dict[str, str], tmp_path: Path) -> None:
    save_rows(tmp_path / "rows.safetensors", torch.eye(2), ("a", "b"), backbone="x", weights="y", prompt="z")
    with pytest.raises(ValueError, match="not a prompt file.* Got 'subpt_dense.rows'"):
        LearnedPrompt(tmp_path / "rows.safetensors", text)
    data = bytearray(Path(saved[1]).read_bytes())
    data[-9] ^= 1
    Path(saved[1]).write_bytes(data)
    with pytest.raises(ValueError, match="prompt.safetensors is damaged"):
        LearnedPrompt(saved[1], text)
    with pytest.raises(FileNotFoundError, match="none.safetensors' does not exist"):
        LearnedPrompt(tmp_path / "none.safetensors", text)


def test_generic_anchors_must_hold_no_evaluated_name(text: dict[str, str], tmp_path: Path) -> None:
    """As ContextPrompt has it, for what the file was learned with."""
    anchors = [{"names": ["Wolf", "lynx"], "templates": "single"}]
    learned = LearnedPrompt(save_with(text, tmp_path, anchors=anchors), text)
    learned.check_evaluated([*NAMES, "zebra"])
    for head in (learned, make_head(text, anchors=anchors)):
        with pytest.raises(ValueError, match=r"generic TextAnchor 'nfl'.* must\s+hold no evaluated name. Got Wolf\."):
            head.check_evaluated([*NAMES, "wolf"])


def test_generic_anchors_may_be_called_heldout(text: dict[str, str], tmp_path: Path) -> None:
    anchors = [{"names": ["wolf"], "templates": "single"}, {"names": "trained", "templates": "single", "name": "kg"}]
    path = save_with(text, tmp_path, anchors=anchors)
    learned = LearnedPrompt(path, text, as_heldout=True)
    learned.check_evaluated([*NAMES, "wolf"])
    kinds = [[anchor["kind"] for anchor in head.identity()["anchors"]] for head in (learned, LearnedPrompt(path, text))]
    assert kinds == [["heldout", "trained"], ["generic", "trained"]]


def test_names_it_was_trained_with_are_not_novel(text: dict[str, str], tmp_path: Path) -> None:
    path = save_with(text, tmp_path)
    learned = LearnedPrompt(path, text)
    learned.check_evaluated([*NAMES, "zebra"], novel=["zebra"])
    with pytest.raises(
        ValueError, match=rf"must hold none that this evaluation calls novel. Got 1: {NAMES[0]}\. Learn"
    ):
        learned.check_evaluated([*NAMES, "zebra"], novel=["zebra", NAMES[0].upper()])
    told = LearnedPrompt(path, text, as_heldout=True)
    told.check_evaluated(NAMES, novel=NAMES[:1])
    assert told.identity()["as_heldout"] and not learned.identity()["as_heldout"]


def test_heldout_anchors_are_told(text: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = save_with(text, tmp_path, anchors=[HELDOUT])
    learned = LearnedPrompt(path, text)
    (anchor,) = learned.identity()["anchors"]
    assert (anchor["kind"], anchor["num_names"]) == ("heldout", 2)
    logger = MMLogger.get_instance("heldout_test")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    caplog.clear()  # another test's logger may have told of what was built above
    learned.check_evaluated(NAMES)
    assert not caplog.messages
    for _ in range(2):  # said once
        learned.check_evaluated([*NAMES, "zebra"])
    (message,) = caplog.messages
    assert "learned with 1 of the names evaluated here in its heldout TextAnchor 'held' (zebra)" in message
    assert load_prompt(path).anchors == ({"name": "held", "kind": "heldout", "names": ["zebra", "lynx"]},)


def test_trained_anchors_say_nothing_new(text: dict[str, str], tmp_path: Path) -> None:
    anchors = [{"names": "trained", "templates": "single", "name": "kg"}]
    learned = LearnedPrompt(save_with(text, tmp_path, anchors=anchors), text)
    learned.check_evaluated([*NAMES, *get_split("coco_ovd").all[:3]])
    assert learned.identity()["anchors"][0]["kind"] == "trained"

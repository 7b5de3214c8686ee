"""A prompt file learned elsewhere, in the toy detector by one option: trained under, evaluated, refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from subpt_dense.apis import test as run_test
from subpt_dense.apis import train
from subpt_dense.datasets import get_split
from subpt_dense.heads import complete_prompt
from subpt_dense.prompts import ContextPrompt, PromptHead, save_prompt
from subpt_dense.registry import MODELS
from subpt_dense.toyworld import MODEL_NAME
from tests.integration.conftest import MakeConfig

SHORT = {"train_cfg.max_iters": 2, "train_cfg.val_begin": 99, "default_hooks.checkpoint.interval": 2}


@pytest.fixture
def head(toy_config: MakeConfig) -> ContextPrompt:
    """A context as another task would have learned it, with the base names of the toy world."""
    torch.manual_seed(1)
    text = {"model": MODEL_NAME, "pretrained": "data/toy/clip_seed0.pt"}
    head = ContextPrompt(text, length=4, init_std=0.1, vocabulary=get_split("data/toy/split.json").base)
    head.context.data.add_(0.05)
    return head


def use(path: Path, **more: Any) -> dict[str, Any]:
    """The options: the template config's head becomes the file's."""
    return {"model.prompt": {"type": "subpt_dense.LearnedPrompt", "file": str(path), **more}, **SHORT}


def build_head(cfg: Config) -> PromptHead:
    """The head as the detector builds it."""
    return MODELS.build(complete_prompt(cfg.model.prompt, cfg.model.language))


def test_trained_under_and_evaluated(toy_config: MakeConfig, head: ContextPrompt, tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt(path, head, facts={"seed": 7, "protocol": "toy classification"})
    split = get_split("data/toy/split.json")
    runner = train(toy_config("template", use(path, names={"split": "data/toy/split.json", "group": "base"})))
    model = runner.model
    model.set_vocabulary(split.all)
    head.eval().vocabulary = split.all
    torch.testing.assert_close(model.prompt(), head(), rtol=0, atol=0)
    state = torch.load(tmp_path / "run" / "iter_2.pth", weights_only=True)
    assert not [key for key in state["state_dict"] if key.startswith("prompt.")]

    result = run_test(toy_config("template", use(path)), tmp_path / "run" / "iter_2.pth")
    assert {name: group["classes"] for name, group in result["tables"][0]["groups"].items()} == {
        "base": 48,
        "novel": 17,
        "all": 65,
    }
    assert result["head"]["type"] == "LearnedPrompt" and result["head"]["file"] == "prompt.safetensors"
    assert result["head"]["origin"]["seed"] == 7 and result["head"]["origin"]["protocol"] == "toy classification"

    head.context.data.add_(0.05)  # another prompt under the same name
    save_prompt(path, head, facts={"seed": 7, "protocol": "toy classification"})
    with pytest.raises(ValueError, match="context_sha256: checkpoint '.*', model '"):
        run_test(toy_config("template", use(path)), tmp_path / "run" / "iter_2.pth")


@pytest.mark.parametrize("kind", ["generic", "heldout"])
def test_a_file_learned_with_novel_names(
    kind: str, toy_config: MakeConfig, head: ContextPrompt, tmp_path: Path
) -> None:
    split = get_split("data/toy/split.json")
    anchor = {"names": list(split.novel[:5]), "templates": "toy", "kind": kind}
    knowing = ContextPrompt(head.key.spec, length=4, anchors=[anchor], vocabulary=split.base)
    save_prompt(tmp_path / "prompt.safetensors", knowing)
    cfg = toy_config("template", use(tmp_path / "prompt.safetensors"))
    if kind == "generic":
        with pytest.raises(
            ValueError, match=r"with which .*prompt.safetensors was learned, must hold no evaluated name"
        ):
            train(cfg)
        assert not list((tmp_path / "run").glob("*.pth"))
        return
    prompt = train(cfg).model.prompt
    assert [anchor["kind"] for anchor in prompt.identity()["anchors"]] == ["heldout"]
    logs = "".join(path.read_text() for path in (tmp_path / "run").rglob("*.log"))
    assert "learned with 5 of the names evaluated here in its heldout TextAnchor 'nfl'" in logs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ["red striped star"]}, r"must be the 48 with which .* was trained. Got 1; only in the file: '"),
        ({"length": 16}, "length: the file has 4, this model 16"),
    ],
)
def test_another_prompt_than_expected_is_refused(
    change: dict[str, Any], message: str, toy_config: MakeConfig, head: ContextPrompt, tmp_path: Path
) -> None:
    save_prompt(tmp_path / "prompt.safetensors", head)
    with pytest.raises(ValueError, match=message):
        build_head(toy_config("template", use(tmp_path / "prompt.safetensors", **change)))


def test_a_damaged_file_is_refused_before_training(toy_config: MakeConfig, head: ContextPrompt, tmp_path: Path) -> None:
    path = tmp_path / "prompt.safetensors"
    save_prompt(path, head)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"prompt\.safetensors is damaged"):
        train(toy_config("template", use(path)))


def test_a_file_of_another_clip_is_refused(toy_config: MakeConfig, tiny_clip: tuple[str, str], tmp_path: Path) -> None:
    other = ContextPrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, length=4, vocabulary=("star",))
    save_prompt(tmp_path / "prompt.safetensors", other)
    message = rf"backbone: the file has '{tiny_clip[0]}', this model '{MODEL_NAME}'"
    with pytest.raises(ValueError, match=message):
        build_head(toy_config("template", use(tmp_path / "prompt.safetensors")))


def test_config_with_the_head_as_one_line(toy_config: MakeConfig, head: ContextPrompt, tmp_path: Path) -> None:
    """`prompt = dict(type=..., file=...)` in the place of a learned head, whose other settings must go."""
    save_prompt(tmp_path / "prompt.safetensors", head)
    cfg = toy_config("nfl")
    cfg.model.prompt = {"type": "subpt_dense.LearnedPrompt", "file": str(tmp_path / "prompt.safetensors")}
    built = build_head(cfg)
    assert built.key == head.key and not list(built.parameters())

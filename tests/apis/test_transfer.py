"""One prompt file, several data sets."""

import json
from pathlib import Path
from unittest import mock

import pytest

from subpt_dense import apis
from subpt_dense.datasets import get_split
from subpt_dense.prompts import ContextPrompt
from subpt_dense.prompts.prompt_file import save_prompt
from subpt_dense.toyworld.crop_world import build_crop_world

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def crops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small crop world where the toy configs look for it."""
    monkeypatch.chdir(tmp_path)
    build_crop_world("data/toy_cls", train=2, val=1, test=1, clip_seeds=(0,))
    return tmp_path


def test_each_set_is_tested_with_the_file_and_nothing_is_trained(crops: Path) -> None:
    head = ContextPrompt({"model": "subpt-toy", "pretrained": "data/toy_cls/clip_seed0.pt"}, 4, vocabulary=["red bar"])
    save_prompt("prompt.safetensors", head)
    anchors = [{"names": [get_split("data/toy_cls/split.json").novel[0]], "templates": "single"}]
    save_prompt("knowing.safetensors", ContextPrompt(head.key.spec, 4, anchors=anchors, vocabulary=["red bar"]))
    configs = [apis.load_config(CONFIGS / f"cls_toy_{name}.py") for name in ("template", "subpt_nfl")]
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):
        results = apis.transfer("prompt.safetensors", configs, "moved")
        first, second = (results[f"cls_toy_{name}"]["tables"] for name in ("template", "subpt_nfl"))
        assert first == second and first[0]["images"] == 65 and first[0]["groups"]["all"]["classes"] == 65
        assert json.loads(Path("moved/cls_toy_template/test.json").read_text())["head"]["length"] == 4
        with pytest.raises(ValueError, match="must hold no evaluated name.*or say `as_heldout=True`"):
            apis.transfer("knowing.safetensors", configs[:1], "moved")
        told = apis.transfer("knowing.safetensors", configs[:1], "told", as_heldout=True)["cls_toy_template"]["head"]
        assert told["as_heldout"] and told["anchors"][0]["kind"] == "heldout"
        with pytest.raises(ValueError, match="must have names of their own. Got cls_toy_template, cls_toy_template"):
            apis.transfer("prompt.safetensors", [configs[0]] * 2, "moved")
        with pytest.raises(FileNotFoundError, match="split_zhou_DescribableTextures.json"):
            apis.transfer("prompt.safetensors", [apis.load_config(CONFIGS / "cls_dtd_template.py")], "moved")

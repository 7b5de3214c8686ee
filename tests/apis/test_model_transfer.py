"""A toy detector and a toy segmentor of two steps on sets with other names, made from the toy scenes."""

import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image

from subpt_dense import apis
from subpt_dense.apis import model_transfer
from subpt_dense.apis.model_transfer import transfer_model
from subpt_dense.datasets import get_split, resolve_names
from tests.tools.load_tool import load_tool
from tests.toyworld.tiny_world import tiny_world

CONFIGS = Path(__file__).parents[2] / "configs"
SHORT = {
    "train_cfg.max_iters": 2,
    "train_cfg.val_interval": 2,
    "default_hooks.checkpoint.interval": 2,
    "train_dataloader.batch_size": 2,
    "train_dataloader.dataset.indices": 4,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the NFL detector; its anchors know generic names."""
    work_dir = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny_world(tmp_path_factory))
        apis.train(apis.load_config(CONFIGS / "ovd_toy_nfl.py", options=SHORT, work_dir=str(work_dir), pretty=False))
    return work_dir


@pytest.fixture
def run(trained: Path, world: Path) -> Path:
    """That run, in a folder with the toy world."""
    with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):
        yield trained


def write_data(folder: Path, names: dict[str, str], protocol: str = "mine transfer") -> Path:
    """The toy's validation scenes with categories renamed (``names``, old to new) and all others left out."""
    content = json.loads(Path("data/toy/annotations/instances_val_all.json").read_text())
    kept = {one["id"]: one | {"name": names[one["name"]]} for one in content["categories"] if one["name"] in names}
    content["categories"] = [*kept.values()][::-1]
    content["annotations"] = [one for one in content["annotations"] if one["category_id"] in kept]
    annotations = folder / "mine.json"
    annotations.write_text(json.dumps(content))
    path = folder / "ovd_mine.py"
    path.write_text(
        f'_base_ = "{CONFIGS}/_base_/datasets/ovd_transfer.py"\n'
        "test_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(\n"
        f'    split=dict(name="mine", names={list(names.values())}), ann_file="{annotations}",\n'
        '    data_prefix=dict(img="data/toy/val/")))\n'
        f'test_evaluator = dict(ann_file="{annotations}", protocol="{protocol}")\n'
        'data_help = "Make it."\n'
    )
    return path


def shown(count: int) -> list[str]:
    """Names that the validation scenes do show."""
    content = json.loads(Path("data/toy/annotations/instances_val_all.json").read_text())
    ids = {one["category_id"] for one in content["annotations"]}
    return [one["name"] for one in content["categories"] if one["id"] in ids][:count]


def test_the_vocabulary_is_swapped_and_nothing_else(run: Path, tmp_path: Path) -> None:
    base = get_split("data/toy/split.json").base
    old = [name for name in shown(65) if name in base][:4]
    new = [old[0].upper().replace(" ", "_"), old[1], "brass kettle", "paper lantern"]
    data = apis.load_config(write_data(tmp_path, dict(zip(old, new, strict=True))))
    before = (run / "iter_2.pth").read_bytes()
    result = transfer_model(run / "iter_2.pth", [data], tmp_path / "moved")["ovd_mine"]
    (table,) = result["tables"]
    assert (table["protocol"], table["images"]) == ("mine transfer", 3)
    assert table["label_space"] == "4 names (2 base + 2 novel)"  # trained ones are base, however they are spelled
    assert {group: scores["classes"] for group, scores in table["groups"].items()} == {"base": 2, "novel": 2, "all": 4}
    assert result["checkpoint"] == "iter_2.pth" and result["head"]["anchors"][0]["kind"] == "generic"
    assert json.loads((tmp_path / "moved/ovd_mine/test.json").read_text()) == result
    assert (run / "iter_2.pth").read_bytes() == before and not [*(tmp_path / "moved").rglob("*.pth")]


def test_images_are_prepared_as_in_the_detectors_own_test(run: Path, tmp_path: Path) -> None:
    """The same set under the same names gives the same numbers as `tools/test.py` on these classes."""
    old = [name for name in shown(65) if name in get_split("data/toy/split.json").base][:6]
    data = apis.load_config(write_data(tmp_path, {name: name for name in old}))
    moved = transfer_model(run / "iter_2.pth", [data], tmp_path / "moved")["ovd_mine"]
    cfg = apis.load_config(CONFIGS / "ovd_toy_nfl.py", options=SHORT, work_dir=str(tmp_path / "own"), pretty=False)
    cfg.test_dataloader.dataset.update(ann_file=str(tmp_path / "mine.json"), split={"name": "mine", "names": old})
    cfg.test_dataloader.dataset.data_root = ""
    cfg.test_dataloader.dataset.data_prefix = {"img": "data/toy/val/"}
    cfg.test_evaluator.ann_file = str(tmp_path / "mine.json")
    own = apis.test(cfg, run / "iter_2.pth")
    assert moved["tables"][0]["groups"]["all"] == own["tables"][0]["groups"]["all"]
    assert moved["tables"][0]["label_space"] == "6 names"


def test_names_that_the_prompt_knows_are_refused_or_stated(run: Path, tmp_path: Path) -> None:
    known = resolve_names(apis.load_config(CONFIGS / "ovd_toy_nfl.py").model.language.names.generic)[0]
    data = apis.load_config(write_data(tmp_path, {shown(1)[0]: known}))
    with pytest.raises(ValueError, match=f"generic TextAnchor 'nfl' must hold no evaluated name. Got {known}"):
        transfer_model(run / "iter_2.pth", [data], tmp_path / "moved")
    (tmp_path / "first").mkdir()
    first = write_data(tmp_path / "first", {shown(1)[0]: "brass kettle"}).rename(tmp_path / "ovd_first.py")
    with (
        mock.patch.object(model_transfer, "test", side_effect=AssertionError("tested before the refusal")),
        pytest.raises(ValueError, match="ovd_mine must be of names that the prompt knows nothing of.*as-heldout"),
    ):
        transfer_model(run / "iter_2.pth", [apis.load_config(first), data], tmp_path / "moved")

    class Frozen(torch.nn.Module):  # rows that were made before, with no anchors to rename
        def check_evaluated(self, names: tuple[str, ...], novel: tuple[str, ...]) -> None:
            raise ValueError(f"known: {names[0]}")

    with (
        mock.patch.object(model_transfer.MODELS, "build", return_value=Frozen()),
        pytest.raises(ValueError, match="ovd_mine must be .* known: .* leave ovd_mine out\\.$"),
    ):
        transfer_model(run / "iter_2.pth", [data], tmp_path / "moved", as_heldout=True)
    told = transfer_model(run / "iter_2.pth", [data], tmp_path / "told", as_heldout=True)["ovd_mine"]
    assert told["head"]["anchors"][0]["kind"] == "heldout" and told["tables"][0]["groups"].keys() == {"all"}


def test_a_checkpoint_of_another_head_is_refused(run: Path, tmp_path: Path) -> None:
    data = apis.load_config(write_data(tmp_path, {shown(1)[0]: "brass kettle"}))
    nfl = CONFIGS / "ovd_toy_nfl.py"
    stored = torch.load(run / "iter_2.pth", weights_only=True)
    stored["prompt_identity"]["weights_hash"] = "0" * 64
    torch.save(stored, tmp_path / "other.pth")
    with pytest.raises(
        ValueError, match="The checkpoint must come from the prompt head .*weights_hash: checkpoint '000"
    ):
        transfer_model(tmp_path / "other.pth", [data], tmp_path / "moved", config=nfl, as_heldout=True)
    with pytest.raises(ValueError, match="The checkpoint must come from the prompt head .*anchors"):
        transfer_model(run / "iter_2.pth", [data], tmp_path / "moved", config=CONFIGS / "ovd_toy_coop.py")


def test_refusals_come_before_any_test(world: Path, tmp_path: Path) -> None:
    voc = apis.load_config(CONFIGS / "_base_/datasets/ovd_voc07.py")
    with pytest.raises(FileNotFoundError, match="The checkpoint must be an existing file. Got 'no.pth'"):
        transfer_model("no.pth", [voc], tmp_path)
    (tmp_path / "there.pth").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="`config` must be given where the run has left none beside"):
        transfer_model(tmp_path / "there.pth", [voc], tmp_path)
    there = {"checkpoint": tmp_path / "there.pth", "work_dir": tmp_path, "config": CONFIGS / "ovd_toy_coop.py"}
    with pytest.raises(FileNotFoundError) as error:
        transfer_model(datasets=[voc], **there)
    for expected in ("voc07_test.json", "VOC2007/JPEGImages", "python tools/prepare_data.py voc07"):
        assert expected in str(error.value)
    with pytest.raises(ValueError, match="must have names of their own. Got ovd_voc07, ovd_voc07"):
        transfer_model(datasets=[voc, voc], **there)
    with pytest.raises(
        ValueError,
        match="must have `test_dataloader` and `test_evaluator`.* coop has no test_dataloader, test_evaluator",
    ):
        transfer_model(datasets=[apis.load_config(CONFIGS / "_base_/prompts/coop.py")], **there)


def test_a_segmentor_goes_to_other_names(world: Path, tmp_path: Path) -> None:
    short = {key: value for key, value in SHORT.items() if not key.endswith("indices")} | {"param_scheduler": None}
    cfg = apis.load_config(CONFIGS / "zss_toy_nfl.py", options=short, work_dir=str(tmp_path / "run"), pretty=False)
    apis.train(cfg)
    lines = Path("data/toy/semantic_classes.txt").read_text().splitlines()
    maps = [np.asarray(Image.open(path)) for path in Path("data/toy/semantic/val").iterdir()]
    first, second, third, *_ = (number for number in np.unique(maps) if number < len(lines) - 6 - 17)  # seen ones
    new = [lines[second], "brass kettle", lines[first].upper()]
    numbered = [*lines]
    numbered[first], numbered[third] = new[2], new[1]
    split, path = tmp_path / "split.json", tmp_path / "zss_mine.py"
    split.write_text(json.dumps({"name": "mine", "names": new}))
    path.write_text(
        f'_base_ = "{CONFIGS}/_base_/datasets/zss_toy.py"\n'
        f'test_dataloader = dict(dataset=dict(split="{split}", labels={numbered}))\n'
        'test_evaluator = dict(protocol="mine transfer")\n'
    )
    result = transfer_model(tmp_path / "run/iter_2.pth", [apis.load_config(path)], tmp_path / "moved")["zss_mine"]
    (table,) = result["tables"]
    assert (table["protocol"], table["images"]) == ("mine transfer", 3)
    assert table["label_space"] == "3 names (2 seen + 1 unseen)"


def test_names_keep_their_numbers_in_the_files() -> None:
    model = apis.load_config(CONFIGS / "zss_voc_subpt.py")
    found = model_transfer._grouped("pc59", model)
    chosen = get_split("pc59")
    assert dict(zip(chosen.all, chosen.ids, strict=True)) == dict(
        zip([*found["base"], *found["novel"]], found["ids"], strict=True)
    )
    assert "bicycle" in found["base"] and "sky" in found["novel"]


def test_the_command_writes_one_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_data(tmp_path, {shown(1)[0]: "brass kettle"})
    out = tmp_path / "out.json"
    command = ["transfer.py", str(run / "iter_2.pth"), str(data), "--work-dir", str(tmp_path / "w"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    load_tool("transfer").main()
    assert json.loads(out.read_text())["ovd_mine"]["tables"][0]["groups"]["all"]["classes"] == 1

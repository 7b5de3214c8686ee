"""Gamma on held-out seen classes: what is held out, that unseen ones are not touched, and a real run."""

import copy
import json
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from subpt_dense import apis
from subpt_dense.apis import load_config
from subpt_dense.apis.calibration import calibrate, holdout_split
from tests.segmentation.dense_model import ALL, COOP, SEEN, TEMPLATE, segmentor_config, write_scenes
from tests.tools.load_tool import load_tool
from tests.vision.image_clips import write_image_clip

SPLIT = {"name": "animals", "base": list(SEEN), "novel": ["owl"]}
CONFIGS = Path(__file__).parents[2] / "configs"
GAMMAS = [0.0, 0.5, 1.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_image_clip(tmp_path_factory.mktemp("clip"), "transformer")


def write_config(root: Path, clip: dict[str, str], prompt: dict = TEMPLATE, train_split: dict | None = None) -> Path:
    """A config on four classes: cat, dog and sky are seen, owl is not."""
    write_scenes(root, 6)
    data = {
        "type": "subpt_dense.ZSSegDataset",
        "split": SPLIT,
        "labels": list(ALL),
        "data_root": str(root),
        "data_prefix": {"img_path": "img", "seg_map_path": "all"},
        "img_suffix": ".png",
        "pipeline": [
            {"type": "mmengine.LoadImageFromFile"},
            {"type": "subpt_dense.LoadLabels"},
            {"type": "mmseg.PackSegInputs"},
        ],
    }
    loader = {"batch_size": 1, "num_workers": 0, "sampler": {"type": "mmengine.DefaultSampler", "shuffle": False}}
    hooks = {"vocabulary": "VocabularyHook", "identity": "PromptIdentityHook", "visualization": "ClassMapHook"}
    train = {**data, "pipeline": [{"type": "a step of training"}], "split": train_split or SPLIT}
    made = {
        "model": segmentor_config(clip, prompt).to_dict(),
        "custom_imports": {"imports": ["subpt_dense.segmentation"], "allow_failed_imports": False},
        "default_scope": "mmseg",
        "train_dataloader": {**loader, "dataset": train},
        "test_dataloader": {**loader, "dataset": {**data, "test_mode": True}},
        "test_evaluator": {"type": "subpt_dense.ZeroShotIoUMetric", "protocol": "animals"},
        "test_cfg": {"type": "mmengine.TestLoop"},
        "default_hooks": {name: {"type": f"subpt_dense.{kind}"} for name, kind in hooks.items()},
        "work_dir": str(root / "work"),
        "log_level": "WARNING",
    }
    path = root / "animals.py"
    Config(made, format_python_code=False).dump(path)
    return path


def config(root: Path, clip: dict[str, str], **kwargs) -> Config:
    return load_config(write_config(root, clip, **kwargs), pretty=False)


class TestSplit:
    @pytest.fixture(scope="class")
    def shared(self, tmp_path_factory: pytest.TempPathFactory, clip: dict[str, str]) -> Config:
        return config(tmp_path_factory.mktemp("split"), clip)

    @pytest.fixture
    def cfg(self, shared: Config) -> Config:
        return copy.deepcopy(shared)

    def test_has_no_unseen_class_in_either_group(self, cfg: Config) -> None:
        split = holdout_split(cfg, ["Dog"])
        assert (split["base"], split["novel"], split["labels"]) == (["cat", "sky"], ["dog"], list(ALL))
        assert split["name"] == "animals, 1 seen classes held out"

    def test_is_drawn_by_seed(self, cfg: Config) -> None:
        drawn = [tuple(holdout_split(cfg, 1, seed=seed)["novel"]) for seed in range(12)]
        assert drawn == [tuple(holdout_split(cfg, 1, seed=seed)["novel"]) for seed in range(12)]
        assert {name for names in drawn for name in names} == set(SEEN)
        assert len(holdout_split(cfg, 2)["novel"]) == 2

    def test_of_a_built_in_split_knows_the_numbers(self, cfg: Config) -> None:
        cfg.test_dataloader.dataset.split = "voc_zss"
        split = holdout_split(cfg, ["cat", "dining table"])
        assert split["labels"][10] == "dining table" and split["labels"][19] == "tv monitor"
        assert split["novel"] == ["cat", "dining table"] and len(split["base"]) == 13

    @pytest.mark.parametrize(
        ("heldout", "message"),
        [
            (["owl"], "must name seen classes of split 'animals': gamma is never chosen on unseen ones. Got owl"),
            (["cow"], "Got cow"),
            ([], "must leave at least one of the 3 seen classes and take one. Got 0"),
            (list(SEEN), "must leave at least one .* Got 3"),
            (0, r"in \[1, 2\]. Got 0"),
            (3, r"in \[1, 2\]. Got 3"),
        ],
    )
    def test_refusals(self, cfg: Config, heldout: object, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            holdout_split(cfg, heldout)


class TestCalibrate:
    def test_equals_tests_with_each_gamma(self, tmp_path: Path, clip: dict[str, str]) -> None:
        cfg = config(tmp_path, clip)
        out = tmp_path / "gamma.json"
        found = calibrate(copy.deepcopy(cfg), None, ["dog"], gammas=GAMMAS, out=out)
        assert json.loads(out.read_text()) == found and found["images"] == 6
        assert found["heldout"] == ["dog"] and found["heldout_trained"] is True and found["checkpoint"] is None
        assert [row["gamma"] for row in found["grid"]] == GAMMAS
        assert found["scores"]["hIoU"] == max(row["hIoU"] for row in found["grid"])
        assert found["at_the_edge"] == (found["gamma"] == GAMMAS[-1])
        cfg.train_dataloader = None
        dataset = cfg.test_dataloader.dataset
        dataset.split = {"name": "held", "base": ["cat", "sky"], "novel": ["dog"]}
        for row in found["grid"][1:3]:
            cfg.model.decode_head.gamma = row["gamma"]
            cfg.work_dir = str(tmp_path / f"work{row['gamma']}")
            cfg.experiment_name = f"animals{row['gamma']}"
            scores = apis.test(copy.deepcopy(cfg), None)["metrics"]
            assert {key: scores[key] for key in ("S", "U", "hIoU", "pAcc")} == pytest.approx(
                {key: row[key] for key in ("S", "U", "hIoU", "pAcc")}, abs=0.05
            )

    def test_a_model_trained_without_them_needs_no_names(self, tmp_path: Path, clip: dict[str, str]) -> None:
        split = {"name": "held", "base": ["cat", "sky"], "novel": ["dog"]}
        cfg = config(tmp_path, clip, train_split=split)
        found = calibrate(cfg, None, gammas=[0.0, 1.0], out=tmp_path / "gamma.json", images=4)
        assert found["heldout"] == ["dog"] and found["heldout_trained"] is False and found["images"] == 4
        assert "model" in cfg and cfg.test_evaluator.type == "subpt_dense.ZeroShotIoUMetric"  # the config is as it was

    def test_takes_what_subpt_has_trained(self, world: Path, tmp_path: Path) -> None:
        short = {"train_cfg.max_iters": 8, "train_cfg.val_interval": 8, "train_dataloader.batch_size": 2}
        hook = {"custom_hooks.0.rank": 1, "custom_hooks.0.explore": 0.5, "custom_hooks.0.interval": 0.125}
        options = {**short, **hook, "param_scheduler": None}
        cfg = load_config(CONFIGS / "zss_toy_subpt.py", options=options, work_dir=str(tmp_path / "run"), pretty=False)
        apis.train(copy.deepcopy(cfg))
        content = json.loads(Path("data/toy/annotations/instances_train_seen.json").read_text())
        shown = {one["category_id"] for one in content["annotations"]}
        names = [one["name"] for one in content["categories"] if one["id"] in shown]
        cfg.work_dir = str(tmp_path / "chosen")
        found = calibrate(cfg, tmp_path / "run/iter_8.pth", names[:2], gammas=[0.0, 1.0], out=tmp_path / "gamma.json")
        assert found["head"]["subspace"]["rank"] == 1 and found["heldout"] == names[:2] and found["images"] == 6

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"out": "gamma.txt"}, "`out` of calibrate must end in .json. Got 'gamma.txt'"),
            ({"train_dataloader": None}, {}, "animals.py must have training images, on which gamma is chosen"),
            ({}, {"images": 0}, "`images` of calibrate must be 1 or more. Got 0"),
            ({"train_cfg": {"type": "x"}}, {}, "`checkpoint` of calibrate must be given for a config that learns"),
            ({}, {"heldout": None}, "must leave at least one of the 3 seen classes and take one. Got 0"),
        ],
    )
    def test_refusals(self, tmp_path: Path, clip: dict[str, str], change: dict, arguments: dict, message: str) -> None:
        cfg = config(tmp_path, clip)
        cfg.merge_from_dict(change)
        given = {"heldout": ["dog"], "gammas": GAMMAS, "out": str(tmp_path / "g.json"), **arguments}
        with pytest.raises(ValueError, match=message):
            calibrate(cfg, None, given.pop("heldout"), **given)


class TestTool:
    def run(self, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["calibrate.py", *map(str, arguments)])
        load_tool("calibrate").main()

    def test_writes_a_split_that_training_takes(
        self, tmp_path: Path, clip: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write_config(tmp_path, clip, COOP)
        self.run(monkeypatch, path, "--holdout", "dog", "--write-split", tmp_path / "held.json")
        text = capsys.readouterr().out.replace("\n", "")
        assert f"train_dataloader.dataset.split={tmp_path}/held.json" in text and "Held out: dog" in text
        options = dict(word.split("=") for word in text.split("--cfg-options ")[1].split())
        cfg = load_config(path, options=options, pretty=False)
        from subpt_dense.registry import DATASETS

        data = DATASETS.build({**cfg.train_dataloader.dataset, "pipeline": []})
        assert data.metainfo["classes"] == ("cat", "sky") and data.label_map == {0: 0, 1: 255, 2: 255, 3: 1}

    def test_names_the_data_inside_a_wrapper(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path, split = CONFIGS / "zss_toy_coop.py", tmp_path / "held.json"
        self.run(monkeypatch, path, "--holdout", "8", "--write-split", split)
        text = capsys.readouterr().out.replace("\n", "")
        options = dict(word.split("=") for word in text.split("--cfg-options ")[1].split())
        data = load_config(path, options=options, pretty=False).train_dataloader.dataset
        assert data.type == "subpt_dense.CachedMaps" and data.dataset.split == str(split) and "split" not in data

    def test_prints_the_grid_and_the_way_on(
        self, tmp_path: Path, clip: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = write_config(tmp_path, clip)
        self.run(monkeypatch, path, "--holdout", "1", "--max", "2", "--steps", "3", "--images", "3")
        text = capsys.readouterr().out
        found = json.loads((tmp_path / "work" / "gamma.json").read_text())
        assert [row["gamma"] for row in found["grid"]] == [0, 1, 2] and found["images"] == 3
        assert f"model.decode_head.gamma={found['gamma']:g}" in text and "were trained on: gamma is too small" in text
        assert ("try larger ones" in text) == found["at_the_edge"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--write-split", "x.json"), "`--write-split` needs `--holdout`"),
            (("--holdout", "dog", "--steps", "1"), "`--steps` must be 2 or more"),
        ],
    )
    def test_refusals(
        self, tmp_path: Path, clip: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: tuple, message: str
    ) -> None:
        with pytest.raises(ValueError, match=message):
            self.run(monkeypatch, write_config(tmp_path, clip), *arguments)

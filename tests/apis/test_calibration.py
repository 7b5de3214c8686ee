"""Gamma on held-out seen classes: what is held out, that unseen ones are not touched, and a real run."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from subpt_dense import apis
from subpt_dense.apis import calibration, load_config
from subpt_dense.apis.calibration import calibrate, holdout_split, largest_gamma
from subpt_dense.registry import DATASETS, MODELS
from tests.segmentation import san_model, two_stage_model
from tests.segmentation.dense_model import ALL, COOP, SEEN, TEMPLATE, segmentor_config, write_scenes
from tests.tools.load_tool import load_tool
from tests.vision.image_clips import write_image_clip

SPLIT = {"name": "animals", "base": list(SEEN), "novel": ["owl"]}
CONFIGS = Path(__file__).parents[2] / "configs"
GAMMAS = [0.0, 0.5, 1.0, 2.0, 4.0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_image_clip(tmp_path_factory.mktemp("clip"), "transformer")


@pytest.fixture(scope="module")
def vit_clip(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return san_model.write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


def two_stage(clip: dict[str, str]) -> dict[str, Any]:
    model = two_stage_model.segmentor_config(clip)
    model.data_preprocessor = {**PREPROCESSOR, "size_divisor": 32}
    return model.to_dict()


def san(clip: dict[str, str]) -> dict[str, Any]:
    return san_model.san_config(clip).to_dict()


PREPROCESSOR = {"type": "mmseg.SegDataPreProcessor", "mean": [120.0] * 3, "std": [60.0] * 3, "bgr_to_rgb": True}
#: By kind of head: its model, and gammas that are of the size of its scores.
KINDS: dict[str, Any] = {
    "dense": (lambda clip: segmentor_config(clip).to_dict(), GAMMAS),
    "two_stage": (two_stage, [0.0, 0.2, 0.5, 1.0]),
    "san": (san, [0.0, 0.2, 0.5, 1.0]),
}


def write_config(
    root: Path,
    clip: dict[str, str],
    prompt: dict = TEMPLATE,
    train_split: dict | None = None,
    model: dict[str, Any] | None = None,
) -> Path:
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
        "model": model or segmentor_config(clip, prompt).to_dict(),
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


def saved(cfg: Config, root: Path) -> Path:
    """A checkpoint of a config's model, with weights as drawn."""
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(cfg.model))
    model.init_weights()
    root.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": model.state_dict()}, root / "model.pth")
    return root / "model.pth"


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

    def test_numbers_without_a_name_are_refused(self, cfg: Config) -> None:
        """A class would be known by the rank of its id, and the labels of all after a gap would be wrong."""
        dataset = cfg.test_dataloader.dataset
        dataset.pop("labels")
        dataset.split = {**SPLIT, "ids": [3, 0, 1, 2]}
        assert holdout_split(cfg, ["dog"])["labels"] == ["dog", "sky", "owl", "cat"]
        dataset.split = {**SPLIT, "ids": [0, 1, 2, 4]}
        with pytest.raises(ValueError, match="`ids` of split 'animals' must be 0 to 3 for .* Got 0 to 4: leave"):
            holdout_split(cfg, ["dog"])

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
    @pytest.mark.parametrize("kind", KINDS)
    def test_equals_tests_with_each_gamma(
        self, tmp_path: Path, clip: dict[str, str], vit_clip: dict[str, str], kind: str
    ) -> None:
        make, gammas = KINDS[kind]
        cfg = config(tmp_path, clip, model=make(clip if kind == "dense" else vit_clip))
        checkpoint, out = saved(cfg, tmp_path), tmp_path / "gamma.json"
        found = calibrate(copy.deepcopy(cfg), checkpoint, ["sky"], gammas=gammas, out=out)
        assert found is not None
        assert json.loads(out.read_text()) == found and found["images"] == 6
        assert found["heldout"] == ["sky"] and found["heldout_trained"] is True and found["checkpoint"] == "model.pth"
        assert [row["gamma"] for row in found["grid"]] == gammas
        assert found["scores"]["hIoU"] == max(row["hIoU"] for row in found["grid"])
        assert found["at_the_edge"] == (found["gamma"] == gammas[-1])
        assert found["grid"][0]["U"] < found["grid"][2]["U"]
        cfg.train_dataloader = None
        dataset = cfg.test_dataloader.dataset
        dataset.split = {"name": "held", "base": ["cat", "dog"], "novel": ["sky"]}
        for row in found["grid"][1:3]:
            cfg.model.decode_head.gamma = row["gamma"]
            cfg.work_dir = str(tmp_path / f"work{row['gamma']}")
            cfg.experiment_name = f"{kind}{row['gamma']}"
            result = apis.test(copy.deepcopy(cfg), checkpoint)
            assert {key: result["metrics"][key] for key in ("S", "U", "hIoU", "pAcc")} == pytest.approx(
                {key: row[key] for key in ("S", "U", "hIoU", "pAcc")}, abs=0.05
            )
            assert result["tables"][0]["details"]["gamma"] == row["gamma"]

    def test_a_model_trained_without_them_needs_no_names(self, tmp_path: Path, clip: dict[str, str]) -> None:
        split = {"name": "held", "base": ["cat", "sky"], "novel": ["dog"]}
        cfg = config(tmp_path, clip, train_split=split)
        given = {"gammas": [0.0, 1.0], "out": tmp_path / "gamma.json", "images": 4}
        found = calibrate(cfg, saved(cfg, tmp_path), **given)
        assert found is not None and found["heldout"] == ["dog"]
        assert found["heldout_trained"] is False and found["images"] == 4
        assert "model" in cfg and cfg.test_evaluator.type == "subpt_dense.ZeroShotIoUMetric"  # the config is as it was

    @pytest.mark.parametrize(
        ("own", "images", "allowed", "count"),
        [
            (None, None, range(6), 6),
            (None, 4, range(6), 4),
            (5, None, range(5), 5),
            (5, 9, range(5), 5),
            (-2, 9, (4, 5), 2),
            ([1, 3, 4], 2, (1, 3, 4), 2),
        ],
    )
    def test_takes_the_images_of_training(
        self, tmp_path: Path, clip: dict[str, str], own: Any, images: int | None, allowed: Any, count: int
    ) -> None:
        """Which of them is the training data's word; that of the test data is about its own images."""
        cfg = config(tmp_path, clip)
        cfg.test_dataloader.dataset["indices"] = [0, 2]
        if own is not None:
            cfg.train_dataloader.dataset["indices"] = own
        scored = calibration._scored(cfg, cfg.train_dataloader.dataset, holdout_split(cfg, ["dog"]), [0.0], images, 0)
        data = DATASETS.build(scored.test_dataloader.dataset)
        names = {int(Path(data.get_data_info(i)["img_path"]).stem) for i in range(len(data))}
        assert len(names) == len(data) == count and names <= {*allowed}

    @pytest.mark.parametrize(
        ("group", "held"), [("base", True), ("seen", True), ("all", True), ("novel", False), ("unseen", False)]
    )
    def test_says_whether_training_knew_them(
        self, tmp_path: Path, clip: dict[str, str], group: str, held: bool
    ) -> None:
        """By the group that training reads: of a split that holds the names out, too."""
        cfg = config(tmp_path, clip)
        cfg.train_dataloader.dataset.group = group
        assert ("dog" in calibration._trained(cfg.train_dataloader.dataset)) == held
        cfg.train_dataloader.dataset.split = {"name": "held", "base": ["cat", "sky"], "novel": ["dog"]}
        assert ("dog" in calibration._trained(cfg.train_dataloader.dataset)) == (group in ("all", "novel", "unseen"))

    @pytest.mark.parametrize(("kind", "largest"), [("dense", 10.0), ("two_stage", 1.0), ("san", 1.0)])
    def test_the_largest_gamma_is_of_the_size_of_the_scores(
        self, clip: dict[str, str], vit_clip: dict[str, str], kind: str, largest: float
    ) -> None:
        model = KINDS[kind][0](clip if kind == "dense" else vit_clip)
        assert largest_gamma(Config({"model": model})) == largest
        head = type(
            "Own", (MODELS.get(model["decode_head"]["type"]),), {"__init__": lambda self, *args, **kwargs: None}
        )
        assert largest_gamma(Config({"model": {"decode_head": {"type": head}}})) == largest

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
        assert found is not None and found["head"]["subspace"]["rank"] == 1
        assert found["heldout"] == names[:2] and found["images"] == 6

    @pytest.mark.parametrize(
        ("change", "arguments", "message"),
        [
            ({}, {"out": "gamma.txt"}, "`out` of calibrate must end in .json. Got 'gamma.txt'"),
            ({"train_dataloader": None}, {}, "animals.py must have training images of a split, on which .* Got none"),
            (
                {"train_dataloader.dataset": {"_delete_": True, "type": "mmseg.ADE20KDataset"}},
                {},
                "must have training images of a split, on which gamma is chosen. Got mmseg.ADE20KDataset",
            ),
            ({}, {"images": 0}, "`images` of calibrate must be 1 or more. Got 0"),
            ({}, {"checkpoint": None}, "`checkpoint` of calibrate must be given: only training favours seen classes"),
            ({}, {"heldout": None}, "must leave at least one of the 3 seen classes and take one. Got 0"),
            (
                {"model.decode_head": {"_delete_": True, "type": "mmseg.FCNHead"}},
                {},
                "`model.decode_head` of a config to calibrate must take `gamma`, as .* Got mmseg.FCNHead",
            ),
            ({"model": {"_delete_": True, "type": "x"}}, {}, "must take `gamma`, as .* Got none"),
        ],
    )
    def test_refusals(self, tmp_path: Path, clip: dict[str, str], change: dict, arguments: dict, message: str) -> None:
        cfg = config(tmp_path, clip)
        cfg.merge_from_dict(change)
        given = {"checkpoint": "model.pth", "heldout": ["dog"], "gammas": GAMMAS, "out": str(tmp_path / "g.json")}
        with pytest.raises(ValueError, match=message):
            calibrate(cfg, **given | arguments)


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
        checkpoint = saved(load_config(path, pretty=False), tmp_path)
        self.run(monkeypatch, path, checkpoint, "--holdout", "1", "--max", "2", "--steps", "3", "--images", "3")
        text = capsys.readouterr().out
        found = json.loads((tmp_path / "work" / "gamma.json").read_text())
        assert [row["gamma"] for row in found["grid"]] == [0, 1, 2] and found["images"] == 3
        assert f"model.decode_head.gamma={found['gamma']:g}" in text and "were trained on: gamma is too small" in text
        assert ("try larger ones" in text) == found["at_the_edge"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--write-split", "x.json"), "`--write-split` needs `--holdout`"),
            (("--holdout", "dog", "--write-split", "x"), "`--write-split` must end in .json. Got 'x'"),
            (("--holdout", "dog", "--steps", "1"), "`--steps` must be 2 or more"),
            (("--holdout", "dog", "--max", "0"), "`--max` above 0. Got 41 and 0.0"),
            (("--holdout", "dog"), "`checkpoint` of calibrate must be given"),
        ],
    )
    def test_refusals(
        self, tmp_path: Path, clip: dict[str, str], monkeypatch: pytest.MonkeyPatch, arguments: tuple, message: str
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=message):
            self.run(monkeypatch, write_config(tmp_path, clip), *arguments)
        assert not (tmp_path / "x").exists() and not (tmp_path / "x.labels.txt").exists()

    @pytest.mark.dist
    def test_two_processes_choose_what_one_does(
        self, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = CONFIGS / "zss_toy_coop.py"
        checkpoint = saved(load_config(config, pretty=False), tmp_path)
        given = [config, checkpoint, "--holdout", "8", "--steps", "3", "--work-dir"]
        self.run(monkeypatch, *given, tmp_path / "one")
        root = CONFIGS.parent
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
        command = [*launch, root / "tools/calibrate.py", *given, tmp_path / "two", "--launcher", "pytorch"]
        done = subprocess.run([*map(str, command)], cwd=world, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-4000:]
        one, two = (json.loads((tmp_path / run / "gamma.json").read_text()) for run in ("one", "two"))
        assert one == two and done.stdout.count("test with --cfg-options") == 1

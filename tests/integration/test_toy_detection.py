"""The toy configs on real Runners: every head trains, is tested by name, and refuses what does not fit."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.apis import inference_detector, init_detector
from PIL import Image

from subpt_dense.apis import test as run_test
from subpt_dense.apis import train
from subpt_dense.datasets import get_split
from subpt_dense.toyworld.controls import write_control_rows
from subpt_dense.toyworld.curves import read_curve
from tests.integration.conftest import MakeConfig

LEARNED = ["coop", "subpt", "nfl", "subpt_nfl", "subpt_nfl_heldout"]


@pytest.mark.parametrize("head", ["template", *LEARNED])
def test_every_head_trains_and_tests(head: str, toy_config: MakeConfig, tmp_path: Path) -> None:
    runner = train(toy_config(head))
    prompt = runner.model.prompt
    assert len(prompt.vocabulary) == 48  # the training names are back after validation
    if head != "template":
        assert prompt.displacement() > 1e-3

    checkpoint = tmp_path / "run" / "iter_8.pth"
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    learned = [key for key in state if key.startswith("prompt.")]
    assert learned == ([] if head == "template" else ["prompt.context", "prompt.initial_context"])
    classifier = {key.split("fc_cls.")[1]: list(value.shape) for key, value in state.items() if "fc_cls" in key}
    assert classifier == {"background": [64], "projection.weight": [64, 256], "projection.bias": [64]}  # no class count

    result = run_test(toy_config(head), checkpoint, out=tmp_path / "table.json")
    written = json.loads((tmp_path / "table.json").read_text())
    assert written == json.loads(json.dumps(result))
    (table,) = written["tables"]
    assert {name: group["classes"] for name, group in table["groups"].items()} == {"base": 48, "novel": 17, "all": 65}
    assert (table["protocol"], table["images"]) == ("toy-ovd-48/17 generalised", 6)
    assert written["head"]["type"] == ("TemplatePrompt" if head == "template" else "ContextPrompt")


@pytest.mark.parametrize("head", ["subpt", "subpt_nfl"])
def test_subpt_stays_in_the_fitted_span_with_the_config_s_optimizer(head: str, toy_config: MakeConfig) -> None:
    runner = train(toy_config(head, {"param_scheduler": [], "train_cfg.val_interval": 99}))
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == "SubspaceHook"]
    assert isinstance(runner.optim_wrapper.optimizer, torch.optim.AdamW)
    displacement = runner.model.prompt.context.detach().flatten().double() - hook.start.double()
    basis = hook.subspace.basis.double()  # [R, P]
    outside = displacement - basis.T @ (basis @ displacement)
    assert displacement.norm() > 5e-3
    # After four steps the displacement is so small that the float32 context itself rounds it by a few 1e-6 of it.
    rounding = 2**-24 * runner.model.prompt.context.detach().norm()
    assert outside.norm() <= 1e-6 * displacement.norm() + rounding


def test_without_the_projection_the_displacement_leaves_the_span(toy_config: MakeConfig) -> None:
    """The check above can fail: projected gradients under AdamW do not keep the context in."""
    options = {"custom_hooks.0.project": "gradient", "param_scheduler": [], "train_cfg.val_interval": 99}
    runner = train(toy_config("subpt", options))
    (hook,) = [hook for hook in runner.hooks if type(hook).__name__ == "SubspaceHook"]
    displacement = runner.model.prompt.context.detach().flatten().double() - hook.start.double()
    basis = hook.subspace.basis.double()
    assert (displacement - basis.T @ (basis @ displacement)).norm() > 1e-2 * displacement.norm()


def test_the_detection_loss_reaches_the_context(toy_config: MakeConfig) -> None:
    """CoOp has no loss of its own, and its context no weight decay: only the detector's gradient can move it."""
    options = {"train_cfg.max_iters": 1, "train_cfg.val_interval": 9}
    assert train(toy_config("coop", options)).model.prompt.displacement() > 0
    blind = toy_config("coop", {**options, "model.roi_head.bbox_head.loss_cls.loss_weight": 0.0}, work_dir="blind")
    assert train(blind).model.prompt.displacement() == 0


def test_head_swapped_by_options(toy_config: MakeConfig) -> None:
    options = {"model.prompt._delete_": True, "model.prompt.type": "subpt_dense.TemplatePrompt"}
    runner = train(toy_config("coop", {**options, "train_cfg.max_iters": 1, "train_cfg.val_interval": 9}))
    assert type(runner.model.prompt).__name__ == "TemplatePrompt"


def test_resume_goes_on_in_either_phase(toy_config: MakeConfig) -> None:
    train(toy_config("subpt", {"train_cfg.val_interval": 99}))
    with pytest.raises(FileExistsError, match="model.*Choose another folder"):
        train(toy_config("subpt", {"model.prompt.length": 3}))
    runner = train(toy_config("subpt", {"train_cfg.val_interval": 99, "train_cfg.max_iters": 9}, resume=True))
    assert runner.iter == 9


def test_pictures_are_drawn(toy_config: MakeConfig, tmp_path: Path) -> None:
    train(toy_config("template", {"train_cfg.val_interval": 4}))
    curve = read_curve(tmp_path / "run")
    assert curve["step"] == [4, 8] and len(curve["base"]) == len(curve["novel"]) == 2
    run_test(toy_config("template"), tmp_path / "run" / "iter_8.pth", show_dir=tmp_path / "drawn")
    pictures = sorted((tmp_path / "drawn").glob("*.png"))
    assert [picture.name for picture in pictures] == [f"{number:06d}.png" for number in range(1, 7)]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (960, 480)  # ground truth beside detections, enlarged from 128


def test_control_rows_take_the_place_of_a_head_s(toy_config: MakeConfig, tmp_path: Path) -> None:
    runner = train(toy_config("template", {"train_cfg.val_interval": 99}))
    head = runner.model.prompt
    names = runner.val_loop.dataloader.dataset.metainfo["classes"]
    head.vocabulary = names
    rows = write_control_rows(head, 17, "shuffled", tmp_path / "rows.safetensors")
    cfg = toy_config("template")
    cfg.model.prompt = {"type": "subpt_dense.RowsPrompt", "file": str(rows)}
    with pytest.raises(ValueError, match=r"prompt head of this config.*TemplatePrompt.*RowsPrompt"):
        run_test(cfg, tmp_path / "run" / "iter_8.pth")
    cfg.default_hooks.identity.allow_other = True
    assert run_test(cfg, tmp_path / "run" / "iter_8.pth")["head"]["type"] == "RowsPrompt"


def test_a_user_s_own_class_names(toy_config: MakeConfig, tmp_path: Path) -> None:
    train(toy_config("coop", {"train_cfg.val_interval": 99}))
    model = init_detector(toy_config("coop"), str(tmp_path / "run" / "iter_8.pth"), device="cpu")
    with pytest.raises(RuntimeError, match=r"`vocabulary` of ContextPrompt is not set"):
        inference_detector(model, "data/toy/val/000001.png")
    model.set_vocabulary(["red striped star", "blue_plain_ring", "something green"])
    found = inference_detector(model, "data/toy/val/000001.png").pred_instances
    assert len(found) > 0
    assert set(found.labels.tolist()) <= {0, 1, 2}


def _split(**change: list[str]) -> dict[str, object]:
    return {"name": "toy", **json.loads(Path("data/toy/split.json").read_text()), **change}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": ["red striped zebra", "blue plain ring"]}, "red striped zebra"),
        ({"base": ["blue plain ring", "blue plain ring"]}, "blue plain ring"),
    ],
    ids=["unknown", "duplicated"],
)
def test_wrong_class_names_are_refused_before_training(
    change: dict[str, list[str]], message: str, toy_config: MakeConfig, tmp_path: Path
) -> None:
    cfg = toy_config("template")
    path = tmp_path / "split.json"
    path.write_text(json.dumps(_split(**change)))
    cfg.train_dataloader.dataset.split = str(path)
    with pytest.raises(ValueError, match=message):
        train(cfg)
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize(
    ("head", "options", "error", "message"),
    [
        ("coop", {"model.prompt.length": 31}, ValueError, r"`length` of ContextPrompt must be in \[1, 29\].*Got 31"),
        ("coop", {"model.prompt.length": 29}, ValueError, r"positions|tokens"),
        (
            "subpt",
            {"custom_hooks.0.rank": 4},
            ValueError,
            r"`rank` of SubspaceHook must be in \[1, 3\] for 4 snapshots. Got 4",
        ),
        ("template", {"model.language.text.pretrained": "data/toy/none.pt"}, FileNotFoundError, "none.pt"),
        ("template", {"model.language.text.pretrained": "data/toy/split.json"}, ValueError, "split.json"),
        ("template", {"model.language.text.model": "ViT-B-32-quickgelu"}, ValueError, "does not fit"),
        (
            "template",
            {"val_dataloader.dataset.ann_file": "annotations/no.json"},
            FileNotFoundError,
            r"no\.json(.|\n)*toyworld\.build",
        ),
    ],
)
def test_bad_input_is_refused_before_training(
    head: str, options: dict, error: type[Exception], message: str, toy_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        train(toy_config(head, options))
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize(
    ("head", "message"),
    [("template", r"ContextPrompt.*TemplatePrompt"), ("subpt", r"subspace: checkpoint None, .*rank")],
)
def test_a_checkpoint_of_another_head_is_refused(
    head: str, message: str, toy_config: MakeConfig, tmp_path: Path
) -> None:
    train(toy_config("coop", {"train_cfg.val_interval": 99}))
    with pytest.raises(ValueError, match=message):
        run_test(toy_config(head, work_dir="other"), tmp_path / "run" / "iter_8.pth")


def test_generic_anchors_must_not_hold_a_novel_name(toy_config: MakeConfig) -> None:
    cfg = toy_config("nfl")
    cfg.model.language.names.generic = list(get_split("data/toy/split.json").novel[:5])
    with pytest.raises(ValueError, match=r"generic TextAnchor 'nfl' must hold no evaluated name"):
        train(cfg)


def test_a_loss_that_is_no_number_stops_the_run(toy_config: MakeConfig, tmp_path: Path) -> None:
    options = {"optim_wrapper.optimizer.lr": float("inf"), "optim_wrapper.clip_grad": None}
    with pytest.raises(FloatingPointError, match=r"losses of iteration 2 must be finite. Got .*loss_.*=nan"):
        train(toy_config("template", options))
    assert not list((tmp_path / "run").glob("*.pth"))


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_a_truncated_image_is_named(policy: str, toy_config: MakeConfig, tmp_path: Path) -> None:
    for part in ("train",):
        folder = tmp_path / part
        folder.mkdir()
        for file in sorted(Path(f"data/toy/{part}").glob("*.png")):
            (folder / file.name).write_bytes(file.read_bytes())
    broken = tmp_path / "train" / "000003.png"
    broken.write_bytes(broken.read_bytes()[:900])
    cfg = toy_config("template", {"train_cfg.val_interval": 99})
    cfg.train_dataloader.dataset.data_prefix.img = f"{tmp_path}/train/"
    cfg.train_dataloader.dataset.pipeline[0].on_error = policy
    if policy == "raise":
        with pytest.raises(RuntimeError, match=r"000003\.png.*on_error='skip'"):
            train(cfg)
    else:
        assert train(cfg).iter == 8

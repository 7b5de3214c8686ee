"""Every shipped config: it loads, says whose every type is, and what it passes fits the real signatures."""

import ast
import difflib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mmengine.registry
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import Registry

import subpt_dense  # noqa: F401  (before mmcv: the shims)

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.py"))
TOP = [name for name in FILES if "/" not in name]
OVD, CLS, ZSS = ([name for name in TOP if name.startswith(task)] for task in ("ovd_", "cls_", "zss_"))
TOY = [name for name in OVD if "_toy_" in name]
EVERYWHERE = ("template", "coop", "subpt", "nfl", "subpt_nfl")
HEADS = sorted((path.stem for path in (CONFIGS / "_base_/prompts").glob("*.py")), key=len, reverse=True)

#: Types that cannot have a scope: torch's optimizers, and operators that mmdet looks up in mmcv.ops by name.
UNSCOPED = {"AdamW": torch.optim, "SGD": torch.optim, "RoIAlign": "mmcv.ops", "nms": "mmcv.ops"}
SCOPES = ("subpt_dense.", "mmdet.", "mmseg.", "mmengine.")
#: What mmengine and mmcv take out of a config before they build the type, by the key the config stands under.
TAKEN_OUT = {"optim_wrapper": {"paramwise_cfg", "constructor"}, "norm_cfg": {"requires_grad"}}

_LOADED: dict[str, Config] = {}


def load(name: str) -> Config:
    if name not in _LOADED:
        _LOADED[name] = Config.fromfile(CONFIGS / name)
    return _LOADED[name]


def typed(node: Any, key: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, dict) of every dict with a ``type`` in a loaded config."""
    if isinstance(node, Mapping):
        if "type" in node:
            yield key, node
        for name, value in node.items():
            yield from typed(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, (list, tuple)):
        for i, value in enumerate(node):
            yield from typed(value, f"{key}[{i}]")


def find(kind: Any, host: str = "mmdet") -> list[Any]:
    """The classes and functions of that name, in whatever registry; an unscoped name is the host's own."""
    if not isinstance(kind, str):
        return [kind]
    if kind in UNSCOPED:
        module = UNSCOPED[kind] if not isinstance(UNSCOPED[kind], str) else __import__(UNSCOPED[kind], fromlist=[kind])
        return [getattr(module, kind)]
    roots = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]
    found = {id(entry): entry for root in roots if (entry := _get(root, kind, host)) is not None}
    return list(found.values())


def _get(root: Registry, kind: str, host: str) -> Any:
    scope = kind.split(".", 1)[0] if "." in kind else host
    if scope == "mmengine":
        return root.get(kind)
    child = root._children.get(scope)
    return None if child is None else child.get(kind)  # with a scope never from the parent, as `build` looks


def parameters(obj: Any) -> tuple[set[str], bool]:
    """Names an object takes, through the bases its ``**kwargs`` go to, and whether any other is taken too."""
    makers = [obj]
    if inspect.isclass(obj):
        makers = [vars(base)["__init__"] for base in obj.__mro__ if "__init__" in vars(base)]
    names: set[str] = set()
    for maker in makers:
        taken = inspect.signature(maker).parameters.values()
        names |= {p.name for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in taken):
            return names - {"self"}, False
    return names - {"self"}, True


def head_of(name: str) -> str:
    """The prompt a top-level config is named for; data sets' names may hold underscores too."""
    stem = name.removesuffix(".py").removesuffix("_scratch")
    return next(head for head in HEADS if stem.endswith("_" + head))


# ---- what our files say ----------------------------------------------------------------------------------------------


def stated_types(path: Path) -> Iterator[str]:
    """Every ``type`` that a file of ours writes, as ``dict(type=...)`` or ``{"type": ...}``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield from (keyword.value.value for keyword in node.keywords if keyword.arg == "type")
        if isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            yield from (value.value for key, value in pairs if isinstance(key, ast.Constant) and key.value == "type")


@pytest.mark.parametrize("name", FILES)
def test_every_type_names_its_scope(name):
    bare = [kind for kind in stated_types(CONFIGS / name) if not kind.startswith(SCOPES) and kind not in UNSCOPED]
    assert not bare, f"prefix them, or the host resolves them, silently: {bare}"


def test_the_check_above_sees_types():
    assert {"subpt_dense.TextClassifier", "RoIAlign"} <= {*stated_types(CONFIGS / "_base_/detectors/ovd_toy.py")}


@pytest.mark.parametrize("name", TOP)
def test_top_level_configs_are_short_and_named_for_what_they_are(name):
    lines = (CONFIGS / name).read_text().splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120
    task, dataset, *head = name.removesuffix(".py").split("_")
    assert task in ("ovd", "zss", "cls") and dataset and head


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("_base_/")])
def test_bases_say_what_they_are(name):
    assert ast.get_docstring(ast.parse((CONFIGS / name).read_text()))


def test_custom_imports_stand_in_the_runtime_only():
    found = [name for name in FILES if "custom_imports =" in (CONFIGS / name).read_text()]
    assert found == ["_base_/runtime_cls.py", "_base_/runtime_det.py", "_base_/runtime_seg.py"]
    assert all(load(names[0]).custom_imports.allow_failed_imports is False for names in (OVD, CLS, ZSS))


@pytest.mark.parametrize("detector", ["", "vild_", "fvlm_"])
@pytest.mark.parametrize("dataset", ["toy", "coco", "lvis"])
def test_swapping_a_head_changes_one_line(dataset, detector):
    heads = [
        *EVERYWHERE,
        *(["detpro_subpt_nfl"] if not detector else []),
        *(["subpt_nfl_heldout"] * (detector != "fvlm_")),
    ]
    texts = {head: (CONFIGS / f"ovd_{dataset}_{detector}{head}.py").read_text().splitlines() for head in heads}
    _differ_in_the_prompt_alone(texts, dataset)


@pytest.mark.parametrize(("dataset", "segmentor"), sorted({tuple(n.split("_")[1:3]) for n in ZSS if n.count("_") > 2}))
def test_swapping_a_segmentor_s_head_changes_one_line(dataset, segmentor):
    segmentor = f"{segmentor}_" if segmentor in ("san", "twostage") else ""
    names = {head: f"zss_{dataset}_{segmentor}{head}.py" for head in (*EVERYWHERE, "subpt_nfl_heldout")}
    texts = {head: (CONFIGS / name).read_text().splitlines() for head, name in names.items()}
    if not segmentor:  # nothing of it is learned: its last lines take training away
        assert texts["template"][-2:] == [
            "# Nothing is learned: test only.",
            "train_cfg = train_dataloader = optim_wrapper = param_scheduler = None",
        ]
        texts["template"] = texts["template"][:-2]
    _differ_in_the_prompt_alone(texts, dataset)


def _differ_in_the_prompt_alone(texts, dataset):
    for head, other in texts.items():
        changed = [line for line in difflib.ndiff(texts["coop"], other) if line[0] in "+-"]
        prompt = f"detpro_{dataset}" if head.startswith("detpro") else head
        swapped = ['-     "./_base_/prompts/coop.py",', f'+     "./_base_/prompts/{prompt}.py",']
        assert changed == ([] if head == "coop" else swapped)


def test_all_data_sets_have_the_same_heads():
    heads = {data: {n.split("_", 2)[2] for n in OVD if f"_{data}_" in n} for data in ("toy", "coco", "lvis")}
    assert heads["toy"] - {"template_scratch.py"} == heads["coco"] == heads["lvis"]


# ---- what they mean --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TOP)
def test_every_type_exists_and_takes_what_it_is_given(name):
    problems = []
    count = 0
    for where, node in typed(load(name).to_dict()):
        count += 1
        found = find(node["type"], load(name).default_scope)
        if not found:
            problems.append(f"{where}: no registry has {node['type']!r}")
            continue
        key = where.rsplit(".", 1)[-1]
        given = {*node} - {"type", "_scope_"} - TAKEN_OUT.get(key, set())
        unknown = []
        for candidate in found:
            names, anything = parameters(candidate)
            unknown.append(set() if anything else given - names)
        if all(unknown):
            problems.append(f"{where}: {node['type']} takes no {', '.join(sorted(min(unknown, key=len)))}")
    assert not problems, "\n".join(problems)
    assert count > (40 if name in OVD else 20)


@pytest.mark.parametrize(
    ("node", "known"),
    [
        ({"type": "mmdet.RPNHead", "in_channels": 8, "feat_channels": 8, "bbox_coder": {}}, True),
        ({"type": "mmdet.RPNHead", "in_channel": 8}, False),
        ({"type": "subpt_dense.OVTwoStageDetector", "prompt": {}, "language": {}, "backbone": {}}, True),
        ({"type": "subpt_dense.OVTwoStageDetector", "promt": {}}, False),
        ({"type": "subpt_dense.OVCocoDataset", "split": "x", "ann_file": "x", "filter_cfg": {}}, True),
        ({"type": "subpt_dense.OVCocoDataset", "grup": "x"}, False),
        ({"type": "mmengine.CosineAnnealingLR", "eta_min": 0, "by_epoch": False}, True),
        ({"type": "mmengine.CosineAnnealingLR", "eta_max": 0}, False),
        ({"type": "mmdet.Resize", "scale": (1, 1), "keep_ratio": True}, True),
        ({"type": "mmdet.Resize", "size": (1, 1)}, False),
        ({"type": "AdamW", "lr": 1, "weigth_decay": 1}, False),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else str(value),
)
def test_the_check_above_tells_right_from_wrong(node, known):
    load(TOP[0])
    (found,) = find(node["type"])
    names, anything = parameters(found)
    assert not anything and ({*node} - {"type"} <= names) is known


def test_an_unknown_type_is_not_found():
    load(TOP[0])
    assert find("mmdet.RPNHaed") == [] == find("subpt_dense.Nothing")


@pytest.mark.parametrize("name", TOP)
def test_the_prompt_can_be_completed_and_is_what_the_file_says(name):
    from subpt_dense.heads import complete_prompt

    cfg = load(name)
    prompt = complete_prompt(cfg.model.prompt, cfg.model.language)
    (head,) = find(prompt["type"])
    inspect.signature(head).bind(**{key: value for key, value in prompt.items() if key != "type"})
    for anchor in prompt.get("anchors", ()):
        (kind,) = find(anchor["type"])
        inspect.signature(kind).bind(**{key: value for key, value in anchor.items() if key != "type"})
    head_name = head_of(name)
    if "_detpro_" in name:  # learned before, by another config: nothing is left to learn
        assert prompt["type"] == "subpt_dense.AveragedPrompt" and "custom_hooks" not in cfg
        return
    assert (prompt["type"] == "subpt_dense.TemplatePrompt") == head_name.startswith("template")
    assert [anchor.get("kind", anchor["names"]) for anchor in prompt.get("anchors", ())] == (
        ["heldout"]
        if "heldout" in head_name
        else ["generic"]
        if "nfl" in head_name
        else ["trained"] * ("kg" in head_name)
    )
    hooks = [hook["type"] for hook in cfg.get("custom_hooks", ())]
    expected = {"subpt": "subpt_dense.SubspaceHook", "prograd": "subpt_dense.ConflictHook"}
    assert hooks == [kind for part, kind in expected.items() if part in head_name]


@pytest.mark.parametrize("name", TOP)
def test_hooks_are_built_and_loaders_bind(name):
    from subpt_dense.registry import HOOKS

    cfg = load(name)
    for hook in cfg.get("custom_hooks", ()):
        HOOKS.build(dict(hook))  # checks its own arguments
    taken = {*inspect.signature(torch.utils.data.DataLoader).parameters}
    for stage in ("train", "val", "test"):
        loader = cfg[f"{stage}_dataloader"]
        if loader is None:
            assert stage == "train" and cfg.train_cfg is None and head_of(name).startswith("template")
            continue
        assert {*loader} <= taken
        assert loader.num_workers > 0 or not loader.get("persistent_workers")  # DataLoader refuses it
        data = loader.dataset.get("dataset", loader.dataset)
        assert data.group == ("base" if stage == "train" and data.get("split") != "whole" else "all")
    assert {"vocabulary", "report", "finite_loss", "identity", "prompt_file"} <= {*cfg.default_hooks}


# Those that learn on regions: tests/classification/test_region_configs.py.
@pytest.mark.parametrize("name", [name for name in CLS if "_regions_" not in name])
def test_a_classification_config_agrees_with_itself(name):
    cfg = load(name)
    val = cfg.val_dataloader.dataset
    learned = name.replace("template", "coop")
    if learned not in CLS:  # a set for testing only, all of whose classes are new
        assert val.dataset.split == "whole" and cfg.train_dataloader is None and "names" not in cfg.model.language
        return
    train = load(learned).train_dataloader.dataset
    tested = val.dataset
    assert val.image == cfg.model.language.text
    assert train.get("image", val.image) == val.image and cfg.test_dataloader == cfg.val_dataloader
    train = train.get("dataset", train)
    assert (train.set, train.data_root, train.part) == (tested.set, tested.data_root, "train") and tested.part == "test"
    assert train.set in cfg.val_evaluator.protocol or train.set == "folder"
    names = cfg.model.language.get("names")
    if names is None:
        assert train.split == "whole" == tested.split  # nothing is held out
        return
    here = dict(set=train.set, data_root=train.data_root) if "split" not in train else train.split
    assert names.heldout.split == here and names.heldout.group == "novel"
    assert "generic" not in names or names.generic.exclude == here
    assert "python" in cfg.data_help
    if cfg.train_cfg is not None:
        assert cfg.train_cfg.type == "subpt_dense.RewindingTrainLoop"
        assert cfg.param_scheduler[-1].T_max == cfg.train_cfg.max_epochs
    assert cfg.default_hooks.sampler_seed is None and "run_state" in cfg.default_hooks  # the loop's conditions
    sizes = {step["size"] for data in (train, tested) for step in data.pipeline if "size" in step}
    assert sizes == {64 if "toy" in name else 224}


@pytest.mark.parametrize("name", OVD)
def test_a_config_agrees_with_itself(name):
    cfg = load(name)
    for stage in ("val", "test"):
        dataset, evaluators = cfg[f"{stage}_dataloader"].dataset, cfg[f"{stage}_evaluator"]
        for evaluator in evaluators if isinstance(evaluators, list) else [evaluators]:  # one each for boxes and masks
            assert evaluator.ann_file == dataset.data_root + dataset.ann_file
        assert dataset.test_mode and dataset.pipeline[0] == {"type": "subpt_dense.LoadImage"}
    train = cfg.train_dataloader.dataset
    train = train.get("dataset", train)  # inside ClassBalancedDataset
    assert "python" in cfg.data_help and train.data_root.rstrip("/") in cfg.data_help
    assert cfg.model.language.names.heldout.split == train.split
    assert cfg.model.language.names.generic.exclude == train.split
    by_epoch = cfg.train_cfg.type == "mmengine.EpochBasedTrainLoop"
    assert cfg.log_processor.by_epoch == by_epoch == cfg.default_hooks.checkpoint.get("by_epoch", True)
    assert cfg.param_scheduler[-1].end == cfg.train_cfg["max_epochs" if by_epoch else "max_iters"]
    if not by_epoch:
        *_, warmup, cosine = cfg.param_scheduler
        assert warmup.end == cosine.begin
        assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    # Runs in one process share a visualizer, and its files, where its name is fixed.
    assert "name" not in cfg.visualizer


@pytest.mark.parametrize("name", ZSS)
def test_a_segmentation_config_agrees_with_itself(name):
    cfg = load(name)
    sets = {
        stage: cfg[f"{stage}_dataloader"].dataset for stage in ("train", "val", "test") if cfg[f"{stage}_dataloader"]
    }
    sets = {stage: data.get("dataset", data) for stage, data in sets.items()}  # inside CachedMaps
    assert all(data.type == "subpt_dense.ZSSegDataset" for data in sets.values())
    assert sets["val"].test_mode and sets["test"].test_mode and sets["val"].split == sets["test"].split
    assert cfg.test_evaluator.type == "subpt_dense.ZeroShotIoUMetric"
    _, _, made_under = cfg.data_help.partition("--root ")  # nothing is made for some sets
    assert "python" in cfg.data_help and sets["test"].data_root.startswith(made_under or "data/")
    assert cfg.log_processor.by_epoch is False and cfg.default_hooks.checkpoint.by_epoch is False
    assert "name" not in cfg.visualizer
    names = cfg.model.language.get("names")
    if names is None:  # a set to test on, where nobody is seen or unseen
        assert cfg.train_cfg is None and "transfer" in cfg.test_evaluator.protocol
        return
    assert "generalised" in cfg.test_evaluator.protocol
    assert names.heldout.split == names.generic.exclude == sets["test"].split and names.heldout.group == "novel"
    if cfg.train_cfg is not None:
        assert sets["train"].split == sets["test"].split
        assert cfg.train_cfg.type == "mmengine.IterBasedTrainLoop"
        assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0


@pytest.mark.parametrize("name", [name for name in ZSS if "_toy_" in name and "_twostage_" not in name])
def test_toy_maps_are_of_the_model_s_own_backbone(name):
    cfg = load(name)
    fitting = ("mean", "std", "bgr_to_rgb", "size_divisor")
    for stage in ("train", "val", "test"):
        if cfg[f"{stage}_dataloader"] is not None:
            data = cfg[f"{stage}_dataloader"].dataset
            assert {"type": "subpt_dense.DenseCLIPBackbone", **data.backbone} == cfg.model.backbone
            assert dict(data.preprocessor) == {key: cfg.model.data_preprocessor[key] for key in fitting}
    assert cfg.model.language.text == {key: cfg.model.backbone[key] for key in ("model", "pretrained")}


@pytest.mark.parametrize("name", TOY)
def test_toy_configs_put_one_clip_everywhere(name):
    cfg = load(name)
    clip = cfg.model.language.text
    trunk = cfg.model.backbone
    assert clip.model == trunk.model == "subpt-toy" and clip.pretrained == "data/toy/clip_seed0.pt"
    assert trunk.pretrained == (None if "scratch" in name else clip.pretrained)
    # The pictures reach the trunk as the tiny CLIPs saw them: mean 0.5, std 0.25, RGB.
    assert cfg.model.data_preprocessor["mean"] == [127.5] * 3 and cfg.model.data_preprocessor["std"] == [63.75] * 3
    assert cfg.model.data_preprocessor.bgr_to_rgb is True

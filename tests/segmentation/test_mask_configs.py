"""The shipped configs of SAN and of the two stages: they agree with themselves, and build and learn once shrunk."""

import copy
import difflib

import pytest
import torch
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

import subpt_dense.toyworld  # noqa: F401  (registers the toy CLIP's model)
from subpt_dense.registry import MODELS
from subpt_dense.toyworld import write_checkpoint
from tests.segmentation import san_model, two_stage_model
from tests.segmentation.san_model import ALL, CONFIGS, DIM, SEEN, pictures, write_vit_clip

HEADS = ("template", "coop", "subpt", "nfl", "subpt_nfl", "subpt_nfl_heldout")
KINDS = [(data, "san") for data in ("voc", "cocostuff", "context")]
KINDS += [(data, "twostage") for data in ("voc", "cocostuff", "context", "toy")]
LISTS = {"generic": ["pink bar"], "heldout": [ALL[-1]]}


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_vit_clip(tmp_path_factory.mktemp("vit_clip"))


@pytest.fixture(scope="module")
def toy_clip(tmp_path_factory):
    return {"model": "subpt-toy", "pretrained": str(write_checkpoint(0, tmp_path_factory.mktemp("toy_clip")))}


def load(data: str, kind: str, head: str) -> Config:
    return Config.fromfile(CONFIGS / f"zss_{data}_{kind}_{head}.py")


@pytest.mark.parametrize(("data", "kind"), KINDS)
def test_swapping_a_prompt_changes_one_line(data, kind):
    texts = {head: (CONFIGS / f"zss_{data}_{kind}_{head}.py").read_text().splitlines() for head in HEADS}
    for head, other in texts.items():
        changed = [line for line in difflib.ndiff(texts["coop"], other) if line[0] in "+-"]
        swapped = ['-     "./_base_/prompts/coop.py",', f'+     "./_base_/prompts/{head}.py",']
        assert changed == ([] if head == "coop" else swapped)


@pytest.mark.parametrize(("data", "kind"), KINDS)
def test_a_config_agrees_with_itself(data, kind):
    cfg = load(data, kind, "subpt_nfl")
    train = cfg.train_dataloader
    assert cfg.auto_scale_lr.base_batch_size % train.batch_size == 0
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert cfg.train_cfg.max_iters % cfg.train_cfg.val_interval == 0
    assert train.dataset.group == "base" and cfg.val_dataloader.dataset.group == "all"
    split = cfg.model.language.names.heldout.split
    assert split == train.dataset.split == cfg.model.language.names.generic.exclude
    crops = [step.crop_size for step in train.dataset.pipeline if "crop_size" in step]
    side = {"san": 640, "twostage": 512}[kind]
    assert crops == ([] if data == "toy" else [(side, side)])
    if kind == "san":
        assert cfg.model.data_preprocessor.size_divisor == side  # SAN's own: crops are filled up to it
        assert cfg.model.pretrained == cfg.model.language.text == cfg.model.text_encoder.text
    else:
        regions, given = cfg.model.decode_head.regions, cfg.model.data_preprocessor
        assert {key: regions[key] for key in ("model", "pretrained")} == cfg.model.language.text
        if data == "toy":
            assert "mean" not in regions  # one CLIP for maps and regions
        else:
            assert (regions["mean"], regions["std"]) == (given["mean"], given["std"]) and given["size"] == (side, side)
        weights = [cfg.model.decode_head[key] for key in ("seen_weight", "unseen_weight")]
        assert weights == ([0.3, 0.7] if data == "voc" else [0.2, 0.8])


def shrink(cfg: Config, clip: dict[str, str], kind: str) -> Config:
    """The ``model`` on a tiny CLIP; what a config says of types, losses and costs stays."""
    small = {"model.language.text": clip, "model.language.templates": "single"}
    if kind == "san":
        cfg.merge_from_dict({"model": copy.deepcopy(san_model.SMALL)})
        small |= {"model.text_encoder.text": clip, "model.pretrained": clip, "model.text_encoder.embed_dim": DIM}
    elif clip["model"] == "subpt-toy":
        small |= {"model.backbone.backbone.pretrained": clip["pretrained"], "model.language.templates": "toy"}
        small |= {"model.decode_head.regions.pretrained": clip["pretrained"], "model.decode_head.regions.batch": 8}
    else:
        cfg.merge_from_dict({"model": {"decode_head": copy.deepcopy(two_stage_model.SMALL)}})
        cfg.model.decode_head.regions.update(clip)
        backbone = {"depth": 50, "base_channels": 8, "stem_channels": 8, "pretrained": None}
        small |= {f"model.backbone.backbone.{key}": value for key, value in backbone.items()}
        small |= {"model.decode_head.in_channels": [32, 64, 128, 256], "model.decode_head.in_index": [0, 1, 2, 3]}
        small |= {"model.decode_head.embed_dim": DIM}
    cfg.merge_from_dict(small)
    cfg.model.language.names = LISTS
    return cfg


@pytest.mark.parametrize(
    ("data", "kind", "head"),
    [("voc", "san", "subpt_nfl"), ("cocostuff", "twostage", "coop"), ("toy", "twostage", "nfl")],
)
@pytest.mark.parametrize("ignore", [False, True])
def test_it_builds_and_learns(clip, toy_clip, data, kind, head, ignore):
    cfg = load(data, kind, head)
    init_default_scope(cfg.default_scope)
    assert DefaultScope.get_current_instance().scope_name == "mmseg"
    shrink(cfg, toy_clip if data == "toy" else clip, kind)
    cfg.model.decode_head.ignore_unlabelled = ignore
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    model.init_weights()
    model.set_vocabulary(SEEN)
    losses = model.train().loss(*pictures())
    assert all(torch.isfinite(value) for value in losses.values())
    assert ("loss_nfl" in losses) == ("nfl" in head)
    sum(value for name, value in losses.items() if name != "loss_nfl").backward()
    assert model.prompt.context.grad.abs().sum() > 0
    model.eval().set_vocabulary(ALL)
    with torch.no_grad():
        (sample, _) = model.predict(*pictures())
    assert sample.seg_logits.data.shape == (3, 64, 64)


@pytest.mark.parametrize(("data", "kind"), [("voc", "san"), ("cocostuff", "twostage"), ("toy", "twostage")])
def test_norms_and_embeddings_do_not_decay(clip, toy_clip, data, kind):
    """As in SAN's and MaskFormer's own code, where biases do, and SAN's background row and the norms of its fusion."""
    cfg = shrink(load(data, kind, "coop"), toy_clip if data == "toy" else clip, kind)
    init_default_scope(cfg.default_scope)
    model = revert_sync_batchnorm(MODELS.build(cfg.model))
    owners = {
        f"{at}.{name}": part for at, part in model.named_modules() for name, _ in part.named_parameters("", False)
    }
    learned = {id(value): name for name, value in model.named_parameters() if value.requires_grad}
    built = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    groups = {learned[id(value)]: group for group in built.param_groups for value in group["params"]}
    assert {*groups} == {*learned.values()} and len(groups) == len(learned)
    norms = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding)
    idle = {name for name in groups if isinstance(owners[name], norms)}
    idle |= {name for name in groups if name.split(".")[-1].endswith(("pos_embed", "query_embed", "context"))}
    assert {name for name, group in groups.items() if not group["weight_decay"]} == idle and len(idle) > 6
    slow = {name for name in groups if name.startswith("backbone.")}
    assert {name for name, group in groups.items() if group["lr"] < cfg.optim_wrapper.optimizer.lr} == slow
    for key in cfg.optim_wrapper.paramwise_cfg.custom_keys:
        assert any(key in name for name in groups), f"{key} names nothing that is learned"


def test_sans_losses_and_costs_are_mmsegs_own():
    """They are written out for their scopes: the numbers must not drift."""
    own, ours = Config.fromfile(san_model.OWN).model.decode_head, load("voc", "san", "coop").model.decode_head

    def plain(entries):
        return [
            {
                key: value.split(".")[-1] if key == "type" else value
                for key, value in entry.items()
                if key not in ("_scope_", "class_weight")
            }
            for entry in entries
        ]

    assert plain(ours.loss_decode) == plain(own.loss_decode)
    assert plain(ours.train_cfg.assigner.match_costs) == plain(own.train_cfg.assigner.match_costs)
    weights = [head.loss_decode[0].class_weight for head in (ours, own)]
    assert {tuple(sorted({*each[:-1]})) + (each[-1],) for each in weights} == {(1.0, 0.1)}

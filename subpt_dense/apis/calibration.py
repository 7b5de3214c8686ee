"""Gamma, which is subtracted from the seen classes' scores in testing, chosen on classes held out of the seen ones.

Published results tune it on the test images and the unseen classes. Here neither is touched: some seen classes stand in
for unseen ones, on *training* images, where every pixel of a class that is really unseen is ignored. To be like unseen
ones they must not have been trained on, or they are favoured as all seen classes are and gamma comes out too small:
train a model of its own on the split of :func:`holdout_split`, choose gamma on it, and use it with the model that was
trained on all seen classes.
"""

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import is_main_process

from subpt_dense.apis.run import test
from subpt_dense.datasets import ClassSplit, get_split, resolve_names, write_json
from subpt_dense.registry import DATASETS, MODELS
from subpt_dense.text import clean_name

#: What of a data set says which images and label maps it reads.
_OF_IMAGES = ("data_root", "ann_file", "data_prefix", "img_suffix", "seg_map_suffix", "reduce_zero_label", "indices")


def holdout_split(cfg: Config, heldout: int | Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """The split whose unseen classes are seen classes of a config's split; the really unseen ones are in neither group.

    Args:
        cfg: A zero-shot segmentation config.
        heldout: Names, or how many are drawn.
        seed: Of the draw.

    Returns:
        ``{"name", "base", "novel", "labels"}``: names in label order, and what the numbers in the label maps mean
        (``labels`` of :class:`subpt_dense.segmentation.ZSSegDataset`).

    Raises:
        ValueError: If a name is not among the seen ones, none or all of them would be held out, or the split's ``ids``
            leave numbers out.
    """
    split, labels = _tested(cfg)
    if isinstance(heldout, int):
        if not 1 <= heldout < len(split.base):
            raise ValueError(
                f"`heldout` of holdout_split must leave a seen class and take one: in [1, {len(split.base) - 1}]. Got "
                f"{heldout}."
            )
        names: Sequence[str] = random.Random(seed).sample(split.base, heldout)
    else:
        names = heldout
    wanted = {_same(name) for name in names}
    unknown = [name for name in names if _same(name) not in {_same(own) for own in split.base}]
    if unknown:
        raise ValueError(
            f"`heldout` must name seen classes of split {split.name!r}: gamma is never chosen on unseen ones. Got "
            f"{', '.join(unknown)}."
        )
    base = [name for name in split.base if _same(name) not in wanted]
    if not base or not wanted:
        raise ValueError(
            f"`heldout` must leave at least one of the {len(split.base)} seen classes and take one. Got {len(wanted)}."
        )
    novel = [name for name in split.base if _same(name) in wanted]
    return {"name": f"{split.name}, {len(novel)} seen classes held out", "base": base, "novel": novel, "labels": labels}


def largest_gamma(cfg: Config) -> float:
    """The largest gamma worth trying, in units of the scores that a config's head gives.

    Raises:
        ValueError: If the head takes no gamma.
    """
    kind = (cfg.model.get("decode_head") or {}).get("type")
    head = MODELS.get(kind) if isinstance(kind, str) else kind
    if head is None or not hasattr(head, "largest_gamma"):
        raise ValueError(
            "`model.decode_head` of a config to calibrate must take `gamma`, as subpt_dense.DenseCLIPHead, "
            f"ProposalCLIPHead and OVSideAdapterHead do. Got {kind or 'none'}."
        )
    return float(head.largest_gamma)


def calibrate(
    cfg: Config,
    checkpoint: str | Path | None,
    heldout: int | Sequence[str] | None = None,
    *,
    gammas: Sequence[float],
    out: str | Path,
    seed: int = 0,
    images: int | None = None,
) -> dict[str, Any] | None:
    """Choose gamma by the hIoU of held-out seen classes and the other seen classes, in one pass over training images.

    Args:
        cfg: The config that the checkpoint was trained with; of its test data set only names and pipeline are used.
        checkpoint: The model. One that nobody trained favours no class: there is no gamma to choose.
        heldout: Names, or how many are drawn. ``None``: the seen classes that the config's training data leaves out.
        gammas: What is tried, in units of the head's scores, see :func:`largest_gamma`.
        out: JSON file for the choice.
        seed: Of the draws.
        images: How many training images, drawn; ``None`` for all.

    Returns:
        What was written: ``gamma``, its scores, the ``grid``, ``heldout``, ``heldout_trained`` (whether the config
        trains on them; then gamma is too small), ``images``, the label maps' hash, and names of config and checkpoint.
        ``None`` in a process beside the main one.

    Raises:
        FileNotFoundError: Naming every missing file.
        ValueError: If there are no training images with a split, the head takes no gamma, there is no checkpoint, or an
            argument is not as above.
    """
    out = Path(out)
    if out.suffix != ".json":
        raise ValueError(f"`out` of calibrate must end in .json. Got {str(out)!r}.")
    train = _innermost((cfg.get("train_dataloader") or {}).get("dataset"))
    if train is None or "split" not in train:
        raise ValueError(
            f"{Path(cfg.filename or 'The config').name} must have training images of a split, on which gamma is "
            f"chosen. Got {'none' if train is None else train.get('type')}."
        )
    if checkpoint is None:
        raise ValueError("`checkpoint` of calibrate must be given: only training favours seen classes. Got none.")
    largest_gamma(cfg)  # refuses heads without one
    trained = {_same(name) for name in _trained(train)}
    if heldout is None:
        heldout = [name for name in _tested(cfg)[0].base if _same(name) not in trained]
    split = holdout_split(cfg, heldout, seed=seed)
    run = _scored(cfg, train, split, gammas, images, seed)
    result = test(run, checkpoint, out=out.with_name(f"{out.stem}_test.json"))
    if not is_main_process():
        return None
    (table,) = result["tables"]
    grid = table["details"]["grid"]["rows"]
    gamma = table["details"]["gamma"]
    chosen = {
        "gamma": gamma,
        "scores": next(row for row in grid if row["gamma"] == gamma),
        "at_the_edge": gamma == max(row["gamma"] for row in grid),
        "heldout": split["novel"],
        "heldout_trained": any(_same(name) in trained for name in split["novel"]),
        "grid": grid,
        "images": table["images"],
        "annotation_file": table["annotation_file"],
        "annotation_sha256": table["annotation_sha256"],
        "config": result["config"],
        "checkpoint": result["checkpoint"],
        "head": result["head"],
    }
    write_json(out, chosen, indent=1)
    return chosen


def _scored(
    cfg: Config, train: Any, split: dict[str, Any], gammas: Sequence[float], images: int | None, seed: int
) -> Config:
    """The config with the training images to test on, prepared as in testing, and all gammas scored."""
    run = copy.deepcopy(cfg)
    run.model.decode_head.gamma = 0.0
    dataset = copy.deepcopy(_innermost(cfg.test_dataloader.dataset))
    for key in _OF_IMAGES:
        dataset.pop(key, None)
        if key in train:
            dataset[key] = copy.deepcopy(train[key])
    dataset["labels"] = list(split["labels"])
    dataset["split"] = {key: split[key] for key in ("name", "base", "novel")}
    dataset["group"], dataset["test_mode"] = "all", True
    if images is not None:
        dataset["indices"] = _drawn(dataset, images, seed)
    run.test_dataloader.dataset = dataset
    old = run.test_evaluator
    old = old[0] if isinstance(old, (list, tuple)) else old
    run.test_evaluator = {
        "type": "subpt_dense.GammaGridMetric",
        "gammas": [float(gamma) for gamma in gammas],
        "protocol": f"gamma chosen on {len(split['novel'])} held-out seen classes of training images",
        "ignore_index": old.get("ignore_index", 255),
    }
    for key in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        run[key] = None
    for key in ("val_dataloader", "val_cfg", "val_evaluator"):
        run[key] = None
    run.experiment_name = f"calibrate_{Path(run.work_dir).name}"
    return run


def _drawn(dataset: Any, images: int, seed: int) -> list[int]:
    """Which images of a data set, ascending: a draw without replacement from those that it takes itself."""
    if images < 1:
        raise ValueError(f"`images` of calibrate must be 1 or more. Got {images}.")
    own = dataset.get("indices")
    pool: Sequence[int] = range(len(DATASETS.build({**dataset, "pipeline": [], "indices": None})))
    if isinstance(own, int):
        pool = pool[:own] if own >= 0 else pool[own:]
    elif own is not None:
        pool = [pool[i] for i in own]
    return sorted(random.Random(seed).sample(pool, min(images, len(pool))))


def _trained(train: Any) -> tuple[str, ...]:
    """The names that a config's training data has labels of."""
    group = train.get("group") or ("all" if train.get("test_mode") else "base")
    return get_split(train["split"]).group({"seen": "base", "unseen": "novel"}.get(group, group))


def _tested(cfg: Config) -> tuple[ClassSplit, list[str]]:
    """The split of the config's test data, and the name of every number in its label maps."""
    dataset = _innermost(cfg.test_dataloader.dataset)
    split = get_split(dataset["split"])
    if split.ids:
        if sorted(split.ids) != list(range(len(split.ids))):
            raise ValueError(
                f"`ids` of split {split.name!r} must be 0 to {len(split.ids) - 1} for classes to be held out: every "
                f"number in the label maps needs a name. Got {min(split.ids)} to {max(split.ids)}: leave them out and "
                "give the data sets `labels`."
            )
        return split, [name for _, name in sorted(zip(split.ids, split.all, strict=True))]
    if not dataset.get("labels"):
        raise ValueError(f"`labels` of the test data must say what the numbers of split {split.name!r} mean. Got none.")
    return split, list(resolve_names(dataset["labels"]))


def _innermost(dataset: Any) -> Any:
    """The data set inside wrappers such as RepeatDataset."""
    while dataset is not None and "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _same(name: str) -> str:
    return clean_name(name).casefold()

"""A detector or segmentor on data sets with other names, its vocabulary swapped: nothing is trained."""

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.apis.config import load_config
from subpt_dense.apis.run import test
from subpt_dense.datasets import get_split, require_files
from subpt_dense.heads import complete_prompt
from subpt_dense.hooks.host import host_of
from subpt_dense.registry import HOOKS, MODELS
from subpt_dense.text import clean_name


@HOOKS.register_module()
class KnownAnchorsHook(Hook):
    """Calls generic anchors heldout in testing, where they held evaluated names: results then state it.

    The checkpoint has been compared with the model by then, so that another head is still refused.
    """

    priority = "HIGHEST"  # before VocabularyHook asks

    def before_test(self, runner: Runner) -> None:
        """Renames them."""
        _call_heldout(host_of(runner.model).prompt)


def _call_heldout(prompt: Any) -> None:
    for anchor in getattr(prompt, "anchors", ()):
        anchor.kind = "heldout" if anchor.kind == "generic" else anchor.kind


def transfer_model(
    checkpoint: str | Path,
    datasets: Sequence[Config],
    work_dir: str | Path,
    *,
    config: str | Path | None = None,
    as_heldout: bool = False,
    launcher: str = "none",
) -> dict[str, dict[str, Any]]:
    """Test a detector or a segmentor on other data sets, its vocabulary swapped for theirs; nothing is trained.

    Images are prepared as in the model's own test. Names that training had labels of count as base, all others as
    novel, spelled alike (case, underscores and spaces aside): that is what heads with a fusion by group go by, and what
    the groups of the result mean.

    Args:
        checkpoint: A ``.pth`` file of the model's run. It must come from the prompt head of its config.
        datasets: Configs of data sets, such as ``configs/_base_/datasets/ovd_voc07.py`` or ``zss_pc59.py``, with
            ``test_dataloader`` and ``test_evaluator``.
        work_dir: Each data set writes into a folder of its name below it.
        config: The model's config; by default the one that its run left beside the checkpoint.
        as_heldout: Take a model whose prompt was learned with generic anchors that held names evaluated here, and
            have the results call these anchors heldout.
        launcher: As for :func:`subpt_dense.apis.load_config`.

    Returns:
        By name of the data set's config what :func:`subpt_dense.apis.test` returns.

    Raises:
        FileNotFoundError: Before anything is tested, naming all that is missing for a data set; or the checkpoint or
            its config.
        ValueError: If a config is of no data set, two have one name, or the checkpoint comes from another head; before
            anything is tested, naming the data set, if the prompt's generic anchors held names of one.
    """
    if not Path(checkpoint).is_file():
        raise FileNotFoundError(f"The checkpoint must be an existing file. Got {str(checkpoint)!r}.")
    model = load_config(config or _config_beside(Path(checkpoint)), launcher=launcher, pretty=False)
    names = [Path(data.filename or f"data{i}").stem for i, data in enumerate(datasets)]
    if len(set(names)) < len(names):
        raise ValueError(f"`datasets` of transfer_model must have names of their own. Got {', '.join(names)}.")
    prepared = {name: _on(model, data, name) for name, data in zip(names, datasets, strict=True)}
    for cfg in prepared.values():
        require_files(cfg, stages=("test",))
    _check_names(model, prepared, as_heldout)
    results = {}
    for name, cfg in prepared.items():
        cfg.work_dir = str(Path(work_dir) / name)
        cfg.experiment_name = f"transfer_{name}"
        if as_heldout:
            cfg.custom_hooks = [*cfg.get("custom_hooks", ()), {"type": "subpt_dense.KnownAnchorsHook"}]
        results[name] = test(cfg, checkpoint)
    return results


def _check_names(model: Config, prepared: Mapping[str, Config], as_heldout: bool) -> None:
    """Refuse what VocabularyHook would refuse at the start of a test, when others may have run for hours."""
    head = MODELS.build(complete_prompt(model.model.prompt, model.model.get("language")))
    if as_heldout:
        _call_heldout(head)
    advice = ", or take it with `--as-heldout`, and the results call the anchors heldout" * hasattr(head, "anchors")
    for name, cfg in prepared.items():
        split = get_split(_innermost(cfg.test_dataloader.dataset).split)
        try:
            head.check_evaluated(split.all, novel=split.novel)
        except ValueError as error:
            raise ValueError(
                f"{name} must be of names that the prompt knows nothing of. {error} For a trained model: leave {name} "
                f"out{advice}."
            ) from error


def _config_beside(checkpoint: Path) -> Path:
    record = checkpoint.parent / "run.json"
    name = json.loads(record.read_text(encoding="utf-8"))["config"] if record.is_file() else None
    if name is None or not (checkpoint.parent / name).is_file():
        raise FileNotFoundError(
            f"`config` must be given where the run has left none beside the checkpoint. Got none, and none of "
            f"{checkpoint.parent}."
        )
    return checkpoint.parent / name


def _on(model: Config, data: Config, name: str) -> Config:
    """The model's config with this data set to test on."""
    absent = [key for key in ("test_dataloader", "test_evaluator") if key not in data]
    if absent:
        raise ValueError(
            "`datasets` of transfer_model must have `test_dataloader` and `test_evaluator`, as "
            f"configs/_base_/datasets/ovd_voc07.py has. {name} has no {', '.join(absent)}."
        )
    cfg = copy.deepcopy(model)
    steps = _innermost(cfg.test_dataloader.dataset).pipeline
    cfg.test_dataloader = copy.deepcopy(data.test_dataloader)
    cfg.test_evaluator = copy.deepcopy(data.test_evaluator)
    cfg.data_help = data.get("data_help", "")
    dataset = _innermost(cfg.test_dataloader.dataset)
    dataset.pipeline = [step for step in steps if not step["type"].endswith("LoadAnnotations")]  # scores need none
    dataset.split = _grouped(dataset.split, model)
    return cfg


def _grouped(split: Any, model: Config) -> dict[str, Any]:
    """The split's names, those the model was trained on as base, with the numbers that they have in its files."""
    chosen = get_split(split)
    trained = _innermost(model.train_dataloader.dataset)
    labelled = get_split(trained.split).group(trained.get("group", "base"))
    known = {_same(name) for name in labelled}
    base = [name for name in chosen.all if _same(name) in known]
    novel = [name for name in chosen.all if _same(name) not in known]
    number = dict(zip(chosen.all, chosen.ids, strict=False))  # empty where names alone decide
    ids = [number[name] for name in (*base, *novel)] if number else []
    return {"name": chosen.name, "base": base, "novel": novel, "ids": ids, "transfer": True}


def _innermost(dataset: Mapping[str, Any]) -> Any:
    """The data set inside wrappers such as ClassBalancedDataset."""
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    return dataset


def _same(name: str) -> str:
    return clean_name(name).casefold()

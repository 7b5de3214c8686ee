"""The vocabulary follows the data set: base names in training, all of them in testing."""

from collections.abc import Iterator
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from subpt_dense.heads import hand_out_groups
from subpt_dense.hooks.host import host_of, in_training
from subpt_dense.registry import HOOKS


@HOOKS.register_module()
class VocabularyHook(Hook):
    """Sets the model's vocabulary, and every class count, from the running data set's ``metainfo["classes"]``.

    At the start of training, validation and testing, and back to the training names after a validation. Novel classes
    are therefore never negatives in training: the model does not know their names. Modules with a
    ``set_groups(base)`` are told each time which of the names are base, from ``metainfo["base_classes"]``, by name.

    Raises:
        ValueError: If anchors that are called generic hold an evaluated name, or the data set names no classes (no base
            classes, where a module asks for groups), or numbers its labels by the annotation file's order instead of
            by name.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Training names."""
        _apply(runner, runner.train_dataloader.dataset)

    def before_val(self, runner: Runner) -> None:
        """Validation names."""
        _apply(runner, runner.val_dataloader.dataset)

    def after_val(self, runner: Runner) -> None:
        """Training names again, when validation ran inside training."""
        if in_training(runner):
            _apply(runner, runner.train_dataloader.dataset)

    def before_test(self, runner: Runner) -> None:
        """Test names."""
        _apply(runner, runner.test_dataloader.dataset)


def _apply(runner: Runner, dataset: Any) -> None:
    model = host_of(runner.model)
    names = (getattr(dataset, "metainfo", None) or {}).get("classes")
    if not names:
        raise ValueError(
            f"`metainfo['classes']` of {type(dataset).__name__} must list the class names in label order. "
            f"Got {names!r}."
        )
    for part in _parts(dataset):
        if hasattr(part, "cat2label") and not getattr(part, "labels_by_name", False):
            raise ValueError(
                f"{type(part).__name__} numbers labels in the order of its annotation file, not of the class names: "
                "rows and labels could disagree. Use `subpt_dense.OVCocoDataset`."
            )
        if tuple(part.metainfo["classes"]) != tuple(names):
            raise ValueError(
                f"Data sets that are joined must have the same classes in the same order. {type(part).__name__} has "
                f"{len(part.metainfo['classes'])} of its own beside {len(names)}."
            )
    meta = dataset.metainfo
    novel = meta.get("novel_classes", ())
    model.prompt.check_evaluated([*names, *meta.get("base_classes", ()), *novel], novel=novel)
    if tuple(names) != model.prompt.vocabulary:
        model.set_vocabulary(names)
        runner.logger.info(f"vocabulary: {len(names)} names of {type(dataset).__name__}")
    # After the vocabulary, which a model may give groups of its own; the same names may be of another split now.
    hand_out_groups(model, list(names), meta.get("base_classes"))


def _parts(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers (RepeatDataset, ConcatDataset, ...), or the data set itself."""
    inner = [*getattr(dataset, "datasets", ()), *([dataset.dataset] if hasattr(dataset, "dataset") else ())]
    if not inner:
        yield dataset
    for part in inner:
        yield from _parts(part)

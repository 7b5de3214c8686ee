"""The names a model works with, in every stage of real runs."""

from types import SimpleNamespace

import pytest
from torch import nn

from subpt_dense.hooks import VocabularyHook
from subpt_dense.registry import HOOKS
from tests.hooks.prompt_run import Host, NamedData, make_runner

BASE = ("cat", "dog")
ALL = ("cat", "dog", "wolf")


def test_training_knows_base_names_only_and_validation_all(tmp_path):
    model = Host()
    runner, lines = make_runner(
        tmp_path, VocabularyHook(), model, train=NamedData(BASE), test=NamedData(ALL, 2), iters=4, val_interval=2
    )
    runner.train()
    expected = [("loss", BASE)] * 2 + [("predict", ALL)] + [("loss", BASE)] * 2 + [("predict", ALL)]
    assert model.calls == expected
    assert model.changes == [BASE, ALL, BASE, ALL, BASE]
    assert lines.lines.count("vocabulary: 2 names of NamedData") == 3
    assert lines.lines.count("vocabulary: 3 names of NamedData") == 2
    runner.test()
    assert model.calls[-1] == ("predict", ALL)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_without_training(tmp_path, stage):
    model = Host()
    runner, _ = make_runner(tmp_path, VocabularyHook(), model, test=NamedData(ALL, 2))
    getattr(runner, stage)()
    assert model.calls == [("predict", ALL)] and model.prompt.vocabulary == ALL


def test_the_same_names_are_not_set_again(tmp_path):
    model = Host()
    runner, _ = make_runner(
        tmp_path, VocabularyHook(), model, train=NamedData(ALL), test=NamedData(list(ALL), 2), iters=2, val_interval=1
    )
    runner.train()
    assert model.changes == [ALL]


def test_order_counts(tmp_path):
    model = Host()
    runner, _ = make_runner(
        tmp_path, VocabularyHook(), model, train=NamedData(BASE), test=NamedData(BASE[::-1], 2), iters=1, val_interval=1
    )
    runner.train()
    assert ("predict", BASE[::-1]) in model.calls


def test_through_a_model_wrapper(tmp_path):
    model = Host()
    runner, _ = make_runner(tmp_path, VocabularyHook(), model, train=NamedData(BASE))
    runner.model = nn.DataParallel(model)  # what mmengine counts among the wrappers
    VocabularyHook().before_train(runner)
    assert model.prompt.vocabulary == BASE


# ---- data sets -------------------------------------------------------------------------------------------------------


class Numbered(NamedData):
    """Numbers its labels itself, as COCO-like data sets do."""

    cat2label = {1: 0, 2: 1}


class ByName(Numbered):
    labels_by_name = True


def joined(*datasets):
    return SimpleNamespace(metainfo=datasets[0].metainfo, datasets=list(datasets))


def repeated(dataset):
    return SimpleNamespace(metainfo=dataset.metainfo, dataset=dataset)


def apply(dataset):
    """The hook before testing on this data set, without a Runner around it."""
    model = Host()
    logger = SimpleNamespace(info=lambda text: None)
    runner = SimpleNamespace(model=model, logger=logger, test_dataloader=SimpleNamespace(dataset=dataset))
    VocabularyHook().before_test(runner)
    return model


@pytest.mark.parametrize(
    "dataset",
    [ByName(BASE), repeated(ByName(BASE)), joined(ByName(BASE), NamedData(BASE)), repeated(joined(ByName(BASE)))],
    ids=["plain", "repeated", "joined", "nested"],
)
def test_wrapped_data_sets(dataset):
    assert apply(dataset).prompt.vocabulary == BASE


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (NamedData(None), r"`metainfo\['classes'\]` of NamedData must list the class names in label order. Got None"),
        (NamedData(()), r"`metainfo\['classes'\]` of NamedData must .* Got \(\)"),
        (SimpleNamespace(), r"`metainfo\['classes'\]` of SimpleNamespace"),
        (Numbered(BASE), "Numbered numbers labels in the order of its annotation file.*`subpt_dense.OVCocoDataset`"),
        (repeated(joined(ByName(BASE), Numbered(BASE))), "Numbered numbers labels"),
        (joined(ByName(BASE), ByName(ALL)), "must have the same classes in the same order. ByName has 3 .* beside 2"),
        (joined(ByName(BASE), ByName(BASE[::-1])), "must have the same classes in the same order"),
    ],
    ids=["no classes", "empty", "no metainfo", "by file order", "nested", "other classes", "other order"],
)
def test_data_sets_that_are_refused(dataset, message):
    with pytest.raises(ValueError, match=message):
        apply(dataset)


def test_it_comes_first_and_is_registered():
    hook = HOOKS.build({"type": "subpt_dense.VocabularyHook"})
    assert isinstance(hook, VocabularyHook) and hook.priority == "VERY_HIGH"

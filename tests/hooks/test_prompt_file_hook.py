"""A run leaves its prompt and the facts of the run, where and when it should; nothing where nothing is learned."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from torch import nn

from subpt_dense.evaluation import ResultTable
from subpt_dense.hooks import PromptFileHook, SubspaceHook, VocabularyHook
from subpt_dense.hooks import prompt_file_hook as module
from subpt_dense.hooks.basis_file import basis_id
from subpt_dense.prompts import ContextPrompt, LearnedPrompt, TemplatePrompt, load_prompt
from subpt_dense.registry import HOOKS
from tests.hooks.prompt_run import Counted, Host, NamedData, NamedPrompt, make_runner

BASE, ALL = NamedData(("cat", "dog")), NamedData(("cat", "wolf", "dog"))


class Scored(Counted):
    """Leaves a table, whose novel score counts the evaluations."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluations = 0
        self.table: ResultTable | None = None

    def compute_metrics(self, results: list) -> dict[str, float]:
        self.evaluations += 1
        groups = {
            "base": {"accuracy": 90.5, "classes": 2},
            "novel": {"accuracy": self.evaluations, "ap": None, "classes": 1},
        }
        self.table = ResultTable("toy 2/1", "all names", "toy.json", "0" * 64, len(results), groups)
        return super().compute_metrics(results)


@pytest.fixture
def text(tiny_clip: tuple[str, str]) -> dict[str, str]:
    return {"model": tiny_clip[0], "pretrained": tiny_clip[1]}


@pytest.fixture
def head(text: dict[str, str]) -> ContextPrompt:
    torch.manual_seed(0)
    return ContextPrompt(text, length=2, anchors=[{"names": ["lynx"], "templates": "single"}])


def run(
    folder: Path, prompt: nn.Module, *hooks: Any, metric: Any = None, train: bool = True, **kwargs: Any
) -> tuple[Path, Any]:
    """The path of the file of a run with training names `cat, dog` and one more in validation, and the Runner."""
    hooks = hooks or (PromptFileHook(),)
    runner, _ = make_runner(folder, VocabularyHook(), Host(prompt), train=BASE, test=ALL, **kwargs)
    for hook in hooks:
        runner.register_hook(hook)
    runner._val_evaluator = runner._test_evaluator = Evaluator(metric or Scored(prefix="toy"))
    runner.train() if train else runner.val()
    return Path(runner.work_dir) / "prompt.safetensors", runner


def test_the_file_of_a_run(tmp_path: Path, head: ContextPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "code_commit", lambda: "abc1234+")
    path, runner = run(tmp_path, head, iters=4, val_interval=2, randomness={"seed": 5})
    loaded = load_prompt(path)
    assert torch.equal(loaded.parameters["context"], head.context) and head.displacement() > 0
    assert torch.equal(loaded.initial, head.initial_context)
    assert loaded.names == ("cat", "dog"), "the trained names, not the evaluated ones"
    assert loaded.identity["weights_hash"] == head.key.weights_hash
    assert loaded.facts == {
        "seed": 5,
        "commit": "abc1234+",
        "protocol": "toy 2/1",
        "config": None,
        "scores": {"base/accuracy": 90.5, "novel/accuracy": 2.0},
        "subspace": None,
        "epoch": None,
        "iteration": 4,
    }


def test_the_file_serves_another_task(tmp_path: Path, head: ContextPrompt, text: dict[str, str]) -> None:
    path, _ = run(tmp_path, head, iters=2)
    learned = LearnedPrompt(path, text, names=["cat", "dog"], vocabulary=("zebra", "lion"))
    head.eval().vocabulary = ("zebra", "lion")
    torch.testing.assert_close(learned(), head(), rtol=0, atol=0)


def test_scores_are_those_of_the_written_prompt(tmp_path: Path, head: ContextPrompt) -> None:
    """Trained on after the last validation, and stopped: no scores."""

    class Stop(Hook):
        def after_train_iter(self, runner: Any, *_: Any, **__: Any) -> None:
            runner.train_loop.stop_training = runner.iter == 2

    path, _ = run(tmp_path, head, PromptFileHook(), Stop(), iters=9, val_interval=2)
    facts = load_prompt(path).facts
    assert (facts["iteration"], facts["scores"], facts["protocol"]) == (3, None, None)


def test_written_at_every_validation(tmp_path: Path, head: ContextPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[dict[str, Any]] = []
    save = module.save_prompt
    monkeypatch.setattr(module, "save_prompt", lambda *a, facts: (written.append(facts), save(*a, facts=facts)))
    run(tmp_path, head, iters=4, val_interval=2)
    assert [facts["iteration"] for facts in written] == [2, 4, 4]
    assert [facts["scores"]["novel/accuracy"] for facts in written] == [1, 2, 2]


def test_metrics_without_a_table(tmp_path: Path, head: ContextPrompt) -> None:
    path, _ = run(tmp_path, head, metric=Counted(prefix="toy"), iters=2, val_interval=2)
    facts = load_prompt(path).facts
    assert facts["scores"] == {"toy/count": 1000.0} and facts["protocol"] is None


def test_config_name_and_seed_of_a_config(tmp_path: Path, head: ContextPrompt) -> None:
    runner, _ = make_runner(tmp_path, VocabularyHook(), Host(head), train=BASE, iters=1)
    runner.register_hook(PromptFileHook("coop.safetensors"))
    object.__setattr__(runner.cfg, "_filename", "/configs/cls_toy_coop.py")
    runner.train()
    facts = load_prompt(Path(runner.work_dir) / "coop.safetensors").facts
    assert facts["config"] == "cls_toy_coop.py" and facts["seed"] == runner.seed


@pytest.mark.parametrize("rewinds", [False, True])
def test_epochs_are_counted_where_the_loop_has_them(tmp_path: Path, head: ContextPrompt, rewinds: bool) -> None:
    """Those of the pass: an exploration of two epochs before it shows in the iterations alone."""
    data = NamedData(("cat", "dog"), length=4)
    runner, _ = make_runner(tmp_path, VocabularyHook(), Host(head), train=data)
    runner._train_dataloader["sampler"] = {"type": "DefaultSampler", "shuffle": False}
    runner._train_loop = {"type": "subpt_dense.RewindingTrainLoop", "max_epochs": 3}
    if rewinds:
        runner.register_hook(SubspaceHook(rank=1, explore=2, by_epoch=True, rewind="run"))
    runner.register_hook(PromptFileHook())
    runner.train()
    facts = load_prompt(Path(runner.work_dir) / "prompt.safetensors").facts
    assert (facts["epoch"], facts["iteration"]) == (3, 10 if rewinds else 6)


def test_nothing_while_exploring(tmp_path: Path, head: ContextPrompt) -> None:
    """Neither the exploring pass's prompt nor its scores: the file appears with the projected one, basis named."""
    seen: list[bool] = []

    class Watch(PromptFileHook):
        def after_val(self, runner: Any) -> None:
            super().after_val(runner)
            seen.append((Path(runner.work_dir) / self.file_name).is_file())

    settings = {"rank": 1, "explore": 4, "interval": 2}
    subspace = SubspaceHook(**settings)
    path, _ = run(tmp_path, head, subspace, Watch(), iters=6, val_interval=2)
    assert seen == [False, True, True]  # validation after iteration 4 sees the rewound prompt
    facts = load_prompt(path).facts
    assert facts["subspace"] == {**subspace.settings, "basis": basis_id(subspace.subspace)}


def test_nothing_where_nothing_is_learned(tmp_path: Path, text: dict[str, str]) -> None:
    head = TemplatePrompt(text)
    head.context = torch.zeros(())  # for the toy host's loss
    path, _ = run(tmp_path, head, iters=2, val_interval=1)
    assert not path.exists()


def test_nothing_outside_training(tmp_path: Path, head: ContextPrompt) -> None:
    path, _ = run(tmp_path, head, train=False)
    assert not path.exists()


def test_the_first_process_alone_writes(tmp_path: Path, head: ContextPrompt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_main_process", lambda: False)
    path, _ = run(tmp_path, head, iters=2, val_interval=1)
    assert not path.exists()


def test_names_are_needed_before_training(tmp_path: Path) -> None:
    runner, _ = make_runner(tmp_path, PromptFileHook(), Host(NamedPrompt()), train=BASE, iters=2)
    with pytest.raises(ValueError, match="NamedPrompt has none: add `subpt_dense.VocabularyHook`"):
        runner.train()
    assert runner.iter == 0


@pytest.mark.parametrize("name", ["prompt.pt", "a/prompt.safetensors", ""])
def test_file_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`file_name` of PromptFileHook must be a name .* Got '{name}'"):
        HOOKS.build({"type": "subpt_dense.PromptFileHook", "file_name": name})

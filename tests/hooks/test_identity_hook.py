"""Checkpoints meet their own head, another one, and none."""

import pytest
import torch

from subpt_dense.hooks import PromptIdentityHook
from subpt_dense.hooks.identity_hook import KEY
from subpt_dense.registry import HOOKS
from tests.hooks.prompt_run import Host, NamedData, NamedPrompt, make_runner

OTHER = {"templates": ["a {}."], "backbone": "ViT"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    runner, _ = make_runner(tmp_path_factory.mktemp("identity"), PromptIdentityHook(), iters=1, save_every=1)
    runner.train()
    return f"{runner.work_dir}/iter_1.pth"


def start(tmp_path, checkpoint, prompt=None, resume=False, **settings):
    hook = PromptIdentityHook(**settings)
    runner, lines = make_runner(tmp_path, hook, Host(prompt), iters=2, load_from=checkpoint, resume=resume)
    runner.train()
    return runner, lines.lines


def test_checkpoints_carry_the_identity(checkpoint):
    stored = torch.load(checkpoint, weights_only=True)
    assert stored[KEY] == {**NamedPrompt().identity(), "subspace": None, "conflict": None}


@pytest.mark.parametrize("resume", [False, True])
def test_the_same_head_is_taken_up_without_a_word(tmp_path, checkpoint, resume):
    runner, lines = start(tmp_path, checkpoint, resume=resume)
    assert runner.iter == 2 and not any("prompt head" in line for line in lines)


@pytest.mark.parametrize("resume", [False, True])
def test_another_head_is_refused_naming_both_sides(tmp_path, checkpoint, resume):
    with pytest.raises(ValueError, match="must come from the prompt head of this config") as error:
        start(tmp_path, checkpoint, NamedPrompt(5, backbone="ViT", templates=["a {}."]), resume=resume)
    for side in ("length: checkpoint 4, model 5", "backbone: checkpoint None, model 'ViT'", r"model \['a {}.'\]"):
        assert error.match(side)
    assert error.match("allow_other=True")
    assert "type:" not in str(error.value)  # what agrees is not told


def test_other_weights_of_the_same_backbone_are_another_head(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="weights_hash: checkpoint '000.*, model '111"):
        start(tmp_path, checkpoint, NamedPrompt(weights_hash="1" * 64))


def test_another_head_may_be_allowed(tmp_path, checkpoint):
    runner, lines = start(tmp_path, checkpoint, NamedPrompt(**OTHER), allow_other=True)
    assert runner.iter == 2
    assert any("comes from another prompt head (" in line and "model 'ViT'" in line for line in lines)


def test_a_checkpoint_of_no_head(tmp_path, checkpoint):
    stored = torch.load(checkpoint, weights_only=True)
    del stored[KEY]
    torch.save(stored, tmp_path / "plain.pth")
    runner, lines = start(tmp_path, str(tmp_path / "plain.pth"))
    assert runner.iter == 2 and any("does not say which prompt head wrote it" in line for line in lines)


def test_testing_refuses_too(tmp_path, checkpoint):
    model = Host(NamedPrompt(**OTHER))
    runner, _ = make_runner(tmp_path, PromptIdentityHook(), model, test=NamedData(("a",), 2), load_from=checkpoint)
    with pytest.raises(ValueError, match="must come from the prompt head"):
        runner.test()
    assert model.calls == []


@pytest.mark.parametrize("with_identity", [True, False])
def test_testing_refuses_an_incomplete_checkpoint(tmp_path, checkpoint, with_identity):
    stored = torch.load(checkpoint, weights_only=True)
    del stored["state_dict"]["host.weight"]
    if not with_identity:
        del stored[KEY]
    torch.save(stored, tmp_path / "part.pth")
    model, data = Host(), NamedData(("a",), 2)
    runner, _ = make_runner(tmp_path, PromptIdentityHook(), model, test=data, load_from=str(tmp_path / "part.pth"))
    with pytest.raises(
        ValueError, match=r"every weight of the model to be tested. Missing are 1, such as host\.weight"
    ):
        runner.test()
    assert model.calls == []


def test_where_the_weights_lay_does_not_matter(tmp_path, checkpoint):
    facts = {"weights": "moved.pt", "precision": "bf16"}
    runner, lines = start(tmp_path, checkpoint, NamedPrompt(**facts))
    assert runner.iter == 2 and not any("prompt head" in line for line in lines)


def test_registered():
    hook = HOOKS.build({"type": "subpt_dense.PromptIdentityHook", "allow_other": True})
    assert isinstance(hook, PromptIdentityHook) and hook.allow_other

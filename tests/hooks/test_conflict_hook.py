"""ConflictHook: ProGrad against a few lines of torch, in real runs of the classifier."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import subpt_dense
from subpt_dense.classification import PromptedClassifier
from subpt_dense.hooks import ConflictHook, SubspaceHook
from subpt_dense.subspace import Subspace
from tests.hooks import classifier_run
from tests.hooks.classifier_run import KL, NAMES, SGD, Features, classifier, run
from tests.hooks.toy_run import ScaledWrapper, ToyModel, train_toy
from tests.text.coop import full_length_rows


def prograd(tiny_clip, model: PromptedClassifier, iters: int, *, weight: float, accumulate: int = 1) -> Any:
    """The prompts ``[iters, P]`` of ProGrad and, by step, whether it changed the gradient."""
    clip = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval().requires_grad_(False)
    tokenizer, scale = open_clip.get_tokenizer(tiny_clip[0]), clip.logit_scale.exp()
    frozen = clip.encode_text(tokenizer([f"a photo of a {name}." for name in NAMES]), normalize=True)
    context = model.prompt.context.detach().clone().requires_grad_()
    optimizer = torch.optim.SGD([context], **{key: value for key, value in SGD.items() if key != "type"})
    data, prompts, changed = Features(), [], []
    g, r = torch.zeros_like(context), torch.zeros_like(context)
    for i in range(iters):
        x, label = data.inputs[4 * i : 4 * i + 4], data.labels[4 * i : 4 * i + 4]
        logits = scale * x @ full_length_rows(clip, context, NAMES).T
        teacher = (scale * x @ frozen.T).softmax(1)
        # The authors' soft cross-entropy: its gradient is that of the divergence.
        kl = -(teacher * logits.log_softmax(1)).sum() / 4
        g = g + torch.autograd.grad(cross_entropy(logits, label) / accumulate, context, retain_graph=True)[0]
        r = r + torch.autograd.grad(kl, context)[0]
        if (i + 1) % accumulate == 0:
            unit = r / r.norm()
            changed.append(bool((g * unit).sum() < 0))
            context.grad = g - weight * (g * unit).sum() * unit if changed[-1] else g
            optimizer.step()
            g, r = torch.zeros_like(context), torch.zeros_like(context)
        prompts.append(context.detach().clone().flatten())
    return torch.stack(prompts), changed


@pytest.mark.parametrize("weight", [1.0, 0.8])
def test_prograd(tiny_clip, tmp_path, weight):
    model = classifier(tiny_clip)
    wanted, changed = prograd(tiny_clip, model, 6, weight=weight)
    steps = run(tmp_path, model, [ConflictHook(KL, weight=weight)])
    assert {True, False} == {*changed}, "both kinds of steps must be seen"
    assert [bool(logged["conflict"]) for logged in steps.logged] == changed
    assert all(logged["reference"] > 0 and "reference" not in str(logged["loss"]) for logged in steps.logged)
    moved = (wanted[-1] - wanted[0]).norm()
    assert (torch.stack(steps.prompts) - wanted).norm(dim=1).max() <= 1e-5 * moved
    coop = run(tmp_path, classifier(tiny_clip), [])
    assert (coop.prompts[-1] - wanted[-1]).norm() > 1e-2 * moved


def test_accumulated_gradients(tiny_clip, tmp_path):
    model = classifier(tiny_clip)
    wanted, changed = prograd(tiny_clip, model, 12, weight=1.0, accumulate=3)
    wrapper = {"type": "OptimWrapper", "optimizer": dict(SGD), "accumulative_counts": 3}
    steps = run(tmp_path, model, [ConflictHook(KL)], 12, wrapper=wrapper)
    assert any(changed)
    assert (torch.stack(steps.prompts) - wanted).norm(dim=1).max() <= 1e-5 * (wanted[-1] - wanted[0]).norm()


def test_scaled_loss(tiny_clip, tmp_path):
    model = classifier(tiny_clip)
    wrapper = ScaledWrapper(optimizer=torch.optim.SGD(model.parameters(), **{k: SGD[k] for k in SGD if k != "type"}))
    scaled = run(tmp_path, model, [ConflictHook(KL)], wrapper=wrapper)
    plain = run(tmp_path, classifier(tiny_clip), [ConflictHook(KL)])
    assert torch.equal(torch.stack(scaled.prompts), torch.stack(plain.prompts))


class Autocast(OptimWrapper):
    """AmpOptimWrapper's context on a CPU."""

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast("cpu", dtype=torch.bfloat16):
            yield


def test_autocast_changes_nothing(tiny_clip, tmp_path):
    model = classifier(tiny_clip)
    wrapper = Autocast(optimizer=torch.optim.SGD(model.parameters(), **{k: SGD[k] for k in SGD if k != "type"}))
    cast = run(tmp_path, model, [ConflictHook(KL)], wrapper=wrapper)
    plain = run(tmp_path, classifier(tiny_clip), [ConflictHook(KL)])
    assert torch.equal(torch.stack(cast.prompts), torch.stack(plain.prompts))


class Poisoned(OptimWrapper):
    """Drops the second gradient, as AMP does with one that overflowed."""

    def step(self, **kwargs: Any) -> None:
        if self._inner_count != 2:
            super().step(**kwargs)


def test_a_skipped_step_leaves_no_reference_behind(tiny_clip, tmp_path):
    model, hook = classifier(tiny_clip), ConflictHook(KL)
    seen: list[Tensor] = []

    wrapper = Poisoned(optimizer=torch.optim.SGD(model.parameters(), lr=0.5))
    before = hook._before_step
    hook._before_step = lambda *args: (seen.append(hook._gradient.clone()), before(*args))[-1]  # type: ignore
    steps = run(tmp_path, model, [hook], 3, wrapper=wrapper)
    assert len(seen) == 2 and torch.equal(steps.prompts[0], steps.prompts[1])
    alone = classifier(tiny_clip)
    alone.prompt.context.data.copy_(steps.prompts[1].view(4, -1))
    data = Features()
    features = data.inputs[8:12]
    alone.hand_out_rows()
    frozen = alone.classifier.scale * features @ hook.reference.rows(alone.prompt.tower(torch.device("cpu")), NAMES).T
    (expected,) = torch.autograd.grad(hook.reference(alone.classifier(features), frozen), alone.prompt.context)
    torch.testing.assert_close(seen[1], expected.flatten())


def test_weight_zero_is_coop_to_the_bit(tiny_clip, tmp_path):
    without, with_zero = (run(tmp_path, classifier(tiny_clip), hooks) for hooks in ([], [ConflictHook(KL, weight=0.0)]))
    assert torch.equal(torch.stack(without.prompts), torch.stack(with_zero.prompts))


def test_a_reference_that_is_the_loss_changes_nothing(tiny_clip, tmp_path):
    """Nothing opposes itself: the same loss as reference leaves every step as it is, to the bit."""

    class Itself(nn.Module):
        def rows(self, tower, vocabulary):
            return torch.eye(24)[: len(vocabulary)]

        def forward(self, logits, frozen):
            return logits.logsumexp(1).mean() - logits[:, 0].mean()

    class First(Features):
        def __getitem__(self, index):
            return {"inputs": self.inputs[index], "label": torch.tensor(0)}

    with mock.patch.object(classifier_run, "Features", First):
        with_it, without = (run(tmp_path, classifier(tiny_clip), hooks) for hooks in ([ConflictHook(Itself())], []))
    assert torch.equal(torch.stack(with_it.prompts), torch.stack(without.prompts))
    assert [logged["conflict"] for logged in with_it.logged] == [0.0] * 6


def test_the_projection_has_the_last_word(tiny_clip, tmp_path):
    rows = torch.linalg.qr(torch.randn(4 * 32, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q.T

    class Fixed(SubspaceHook):
        def _fit(self, snapshots):
            return Subspace(rows, torch.full((3,), 1 / 3))

    model = classifier(tiny_clip)
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.5}}
    hooks = [Fixed(rank=3, explore=5), ConflictHook(KL)]
    steps = run(tmp_path, model, hooks, 12, wrapper=wrapper)
    start = hooks[0].start
    moves = torch.stack(steps.prompts[5:]).double() - start.double()
    assert any(logged["conflict"] for logged in steps.logged[5:])
    assert (moves - moves @ rows.T @ rows).norm() <= 1e-5 * moves.norm()


@pytest.mark.parametrize(
    "prompt",
    [
        {"head": "ConditionalPrompt"},
        {"max_tokens": 1},
        {"anchors": [{"names": "trained", "templates": "single", "weight": 8.0, "name": "kg"}]},
    ],
    ids=["conditional", "chunked", "anchored"],
)
def test_other_heads(tiny_clip, tmp_path, prompt):
    model, hook = classifier(tiny_clip, **prompt), ConflictHook(KL)
    steps = run(tmp_path, model, [hook])
    coop = run(tmp_path, classifier(tiny_clip, **prompt), [])
    assert any(logged["conflict"] for logged in steps.logged)
    assert not torch.equal(steps.prompts[-1], coop.prompts[-1])
    if "max_tokens" in prompt:
        whole = run(tmp_path, classifier(tiny_clip), [ConflictHook(KL)])
        torch.testing.assert_close(torch.stack(steps.prompts), torch.stack(whole.prompts), rtol=1e-4, atol=1e-5)
    assert not hook._handles and not model.classifier._forward_hooks, "nothing stays behind"


def test_settings():
    assert ConflictHook(KL, weight=0.8).settings == {
        "reference": {"type": "ZeroShotKL", "templates": "single"},
        "weight": 0.8,
    }


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan")])
def test_refused_weight(weight):
    with pytest.raises(ValueError, match=rf"`weight` of ConflictHook must be in \[0, 1\]\. Got {weight}"):
        ConflictHook(KL, weight=weight)


def test_refused_before_training(tiny_clip, tmp_path):
    with pytest.raises(ValueError, match="ConflictHook needs a prompt head on a text tower.*Got ToyPrompt"):
        train_toy(tmp_path, ConflictHook(KL), model=ToyModel())
    frozen = classifier(tiny_clip)
    frozen.prompt.requires_grad_(False)
    with pytest.raises(ValueError, match="Prompt parameters of ConflictHook must require gradients"):
        run(tmp_path, frozen, [ConflictHook(KL)], wrapper=_wrapper(torch.nn.Parameter(torch.zeros(1))))
    bare = classifier(tiny_clip)
    bare.classifier = nn.Identity()
    with pytest.raises(
        ValueError, match="ConflictHook needs a model that classifies with rows. Got PromptedClassifier"
    ):
        run(tmp_path, bare, [ConflictHook(KL)])


def _wrapper(*parameters: nn.Parameter) -> OptimWrapper:
    return OptimWrapper(optimizer=torch.optim.SGD(parameters, lr=0.1))


def test_a_step_without_logits_is_an_error(tiny_clip, tmp_path):
    model = classifier(tiny_clip)
    model.forward = lambda inputs, label, mode: {"loss": model.prompt().sum()}  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="ConflictHook needs logits of the prompt's rows in every step"):
        run(tmp_path, model, [ConflictHook(KL)])


def test_a_broken_reference_is_an_error(tiny_clip, tmp_path):
    hook = ConflictHook(KL)
    rows = hook.reference.rows
    hook.reference.rows = lambda *args: rows(*args) * torch.nan
    with pytest.raises(FloatingPointError, match="gradient of ZeroShotKL in ConflictHook must be finite. Got .*nan"):
        run(tmp_path, classifier(tiny_clip), [hook])


def test_evaluation_costs_nothing(tiny_clip, tmp_path):
    """Validation inside training sees the classifier with its hook, which must not run."""
    hook, encoded, compared = ConflictHook(KL), [], []
    rows = hook.reference.rows
    hook.reference.rows = lambda *args: encoded.append(args[1]) or rows(*args)
    hook.reference.register_forward_hook(lambda *_: compared.append(1))

    class Validates(Hook):
        priority = "LOW"

        def after_train_iter(self, runner, *_, **__):
            features = Features().inputs[:3]
            runner.model.eval()(features.requires_grad_(), mode="tensor")
            with torch.no_grad():
                runner.model.train()(features, mode="tensor")

    steps = run(tmp_path, classifier(tiny_clip), [hook, Validates()])
    plain = run(tmp_path, classifier(tiny_clip), [ConflictHook(KL)])
    assert encoded == [NAMES], "frozen rows are encoded once a vocabulary"
    assert len(compared) == 6
    assert torch.equal(torch.stack(steps.prompts), torch.stack(plain.prompts))


def test_the_classifier_keeps_its_rows(tiny_clip, tmp_path):
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, *_, **__):
            seen.append(runner.model.classifier.rows)

    model = classifier(tiny_clip)
    before = model.prompt().detach()
    run(tmp_path, model, [ConflictHook(KL), Watch()], 1)
    assert seen[0].requires_grad and torch.equal(seen[0].detach(), before)


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes_equal_one_with_both_batches(tiny_clip, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(subpt_dense.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    commands = [
        [sys.executable, classifier_run.__file__, str(rank), str(tmp_path), json.dumps(tiny_clip)] for rank in range(2)
    ]
    processes = [subprocess.Popen(command, env=environment) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(first["prompts"], second["prompts"])
    assert any(first["conflict"]) and first["conflict"] == second["conflict"]
    one = run(tmp_path, classifier(tiny_clip), [ConflictHook(KL)], batch=8)
    torch.testing.assert_close(torch.stack(one.prompts), first["prompts"], rtol=1e-4, atol=1e-5)

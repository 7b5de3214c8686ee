"""A basis, once fitted, serves another run of the same kind, and no other."""

from pathlib import Path
from typing import Any

import pytest
import torch

from subpt_dense.hooks import SubspaceHook
from subpt_dense.hooks.basis_file import check_origin, load_basis
from tests.hooks.toy_run import LENGTH, ToyModel, ToyPrompt, Train, outside

IDENTITY = {"type": "ToyPrompt", "backbone": "toy", "weights_hash": "a" * 8, "length": 6, "width": 8, "position": "end"}


class NamedPrompt(ToyPrompt):
    """A toy prompt that says what it is."""

    vocabulary = ("cat", "dog")

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        self.facts = IDENTITY | changes

    def identity(self) -> dict[str, Any]:
        return self.facts


def named_model(vocabulary: tuple[str, ...] = ("cat", "dog"), **changes: Any) -> ToyModel:
    model = ToyModel()
    state = model.prompt.state_dict()
    model.prompt = NamedPrompt(**changes)
    model.prompt.load_state_dict(state)
    model.prompt.vocabulary = vocabulary
    return model


@pytest.fixture
def explored(train: Train) -> tuple[SubspaceHook, Path]:
    hook = SubspaceHook(rank=3, explore=8)
    _, runner = train(hook, 12, model=named_model())
    return hook, Path(runner.work_dir) / "subspace.safetensors"


@pytest.mark.parametrize("start_from", ["init", "first_snapshot", "last_snapshot"])
@pytest.mark.parametrize("rank", [1, 3])
def test_another_run_projects_onto_it_from_its_first_step(
    train: Train, explored: tuple[SubspaceHook, Path], start_from: str, rank: int
) -> None:
    first, path = explored
    hook = SubspaceHook(rank=rank, basis_file=str(path), start_from=start_from)
    recorder, _ = train(hook, 10, model=named_model())
    assert hook.subspace is not None and first.subspace is not None and hook.start is not None
    assert torch.equal(hook.subspace.basis, first.subspace.basis[:rank])
    assert torch.equal(hook.start, load_basis(path).starts[start_from])
    assert len(recorder.prompts) == 10 and (recorder.prompts[-1] - hook.start).norm() > 1e-3
    assert outside(recorder, hook, 0) <= 1e-6


def test_a_run_with_a_basis_resumes_to_the_bit(train: Train, explored: tuple[SubspaceHook, Path]) -> None:
    options = {"rank": 2, "basis_file": str(explored[1])}
    whole, runner = train(SubspaceHook(**options), 8, model=named_model(), save_every=1)
    path = f"{runner.work_dir}/iter_3.pth"
    part, _ = train(SubspaceHook(**options), 8, model=named_model(), load_from=path, resume=True)
    assert torch.equal(whole.prompts[-1], part.prompts[-1])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"backbone": "other"}, {}, r"has backbone 'toy', this run 'other'"),
        ({"weights_hash": "b"}, {}, r"has weights_hash 'aaaaaaaa', this run 'b'"),
        ({"vocabulary": ("cat", "owl")}, {}, r"has 2 of them, this run 2; they differ in \['dog', 'owl'\]"),
        ({"vocabulary": ("dog", "cat")}, {}, r"they differ in another order"),
        ({}, {"rank": 4}, r"`rank` of SubspaceHook must be in \[1, 3\] for .*subspace.safetensors. Got 4"),
        ({}, {"explore": 4}, r"needs either `explore` or `basis_file`. Got explore=4 and basis_file"),
    ],
)
def test_another_prompt_is_refused(
    train: Train,
    explored: tuple[SubspaceHook, Path],
    model: dict[str, Any],
    options: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        train(SubspaceHook(**({"rank": 2, "basis_file": str(explored[1])} | options)), 6, model=named_model(**model))


def test_another_length_a_damaged_and_a_missing_file_are_refused(
    train: Train, explored: tuple[SubspaceHook, Path], tmp_path: Path
) -> None:
    _, path = explored
    found = load_basis(path).origin
    longer = found | {"parameters": [["context", [LENGTH + 1, 1]]]}
    with pytest.raises(
        ValueError, match=r"has parameters \[\['context', \[6, 8\]\].*this run \[\['context', \[65, 1\]"
    ):
        check_origin(path, found, longer)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    (tmp_path / "bad.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged"):
        train(SubspaceHook(rank=2, basis_file=str(tmp_path / "bad.safetensors")), 6, model=named_model())
    with pytest.raises(FileNotFoundError, match="The basis file .* does not exist"):
        train(SubspaceHook(rank=2, basis_file=str(tmp_path / "none.safetensors")), 6, model=named_model())
    with pytest.raises(ValueError, match="needs either `explore` or `basis_file`. Got neither"):
        SubspaceHook(rank=2)

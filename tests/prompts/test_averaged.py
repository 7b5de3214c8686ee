"""AveragedPrompt: the mean of several learned prompts' rows, found by a list or by their files; others refused."""

import copy
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MMLogger

from subpt_dense.heads import complete_prompt
from subpt_dense.prompts import (
    AveragedPrompt,
    ContextPrompt,
    LearnedPrompt,
    ListedPrompt,
    read_prompt_list,
    save_prompt,
    write_prompt_list,
)
from subpt_dense.registry import MODELS
from tests.prompts.conftest import MORE, NAMES
from tests.tiny_clip import write_tiny_clip

GRADES = ((0.5, 0.6), (0.6, 0.7), (0.9, 1.1))
NFL = {"names": ["lynx", "wolf"], "templates": "toy"}

Text = dict[str, str]
Save = Callable[..., str]


@pytest.fixture(scope="session")
def text(tiny_clip: tuple[str, str]) -> Text:
    return {"model": tiny_clip[0], "pretrained": tiny_clip[1]}


@pytest.fixture
def save(text: Text, tmp_path: Path) -> Save:
    """Writes the prompt file of a seeded head, ``<tmp_path>/<seed>/prompt.safetensors``."""

    def save_head(seed: int, **changes: Any) -> str:
        torch.manual_seed(seed)
        head = ContextPrompt(text, **{"length": 3, "init_std": 0.3, "vocabulary": NAMES, **changes})
        path = tmp_path / str(seed) / "prompt.safetensors"
        save_prompt(path, head, facts={"seed": seed, "subspace": {"rank": 2}})
        return str(path)

    return save_head


@pytest.fixture
def files(save: Save) -> list[str]:
    return [save(seed) for seed in (1, 2, 3)]


@pytest.fixture
def listed(files: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "prompts.json"
    write_prompt_list(path, [ListedPrompt(Path(file), grade) for file, grade in zip(files, GRADES, strict=True)])
    return path


@pytest.fixture
def head(files: list[str], text: Text) -> AveragedPrompt:
    return AveragedPrompt(files, text, vocabulary=NAMES)


def test_rows_are_the_normalised_mean_of_unit_rows(files: list[str], head: AveragedPrompt, text: Text) -> None:
    """The official release's ensemble, in a few lines: divide by norms, add up, divide by the norm."""
    for names in (NAMES, (*MORE, "a name nobody has trained")):
        each = [LearnedPrompt(file, text, vocabulary=names)() for file in files]
        total = sum(rows / rows.norm(dim=-1, keepdim=True) for rows in each)
        head.vocabulary = names
        torch.testing.assert_close(head(), total / total.norm(dim=-1, keepdim=True))
        assert head().dtype == torch.float32 and head().shape == (len(names), 24) == (len(names), head.embed_dim)
    assert (head() - each[0]).abs().max() > 1e-2  # the three do differ


def test_one_file_is_its_own_mean(files: list[str], text: Text) -> None:
    mean, one = AveragedPrompt(files[:1], text, vocabulary=NAMES), LearnedPrompt(files[0], text, vocabulary=NAMES)
    torch.testing.assert_close(mean(), one())


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_learned_and_rows_are_computed_once(head: AveragedPrompt, training: bool) -> None:
    head.train(training)
    rows = head()
    assert head() is rows and not rows.requires_grad and not head.conditional
    assert head.prompt_parameters() == {} == head.state_dict() == head.auxiliary_losses()
    assert not list(head.parameters())
    head.vocabulary = [*NAMES, *MORE]
    torch.testing.assert_close(head()[:3], rows)
    head.parts[0].context.add_(1)  # whoever writes into a part is followed
    assert not torch.equal(head()[:3], rows)


def test_rows_kept_under_inference_mode_may_meet_a_graph(head: AveragedPrompt) -> None:
    with torch.inference_mode():
        head()
    features = torch.rand(2, 24, requires_grad=True)
    (features @ head().T).sum().backward()
    assert features.grad is not None


def test_copies_pickles_and_precisions(head: AveragedPrompt) -> None:
    rows = head()
    torch.testing.assert_close(copy.deepcopy(head)(), rows, rtol=0, atol=0)
    data = pickle.dumps(head)
    assert len(data) < 40_000
    torch.testing.assert_close(pickle.loads(data)(), rows, rtol=0, atol=0)
    half = head.half()()
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, rows, rtol=0, atol=2e-3)


def test_names_can_wait_and_are_checked_when_set(head: AveragedPrompt, files: list[str], text: Text) -> None:
    waiting = AveragedPrompt(files, text)
    with pytest.raises(RuntimeError, match="`vocabulary` of AveragedPrompt is not set"):
        waiting()
    rows = head()
    for names, message in (
        (["cat", "Cat"], "AveragedPrompt.*distinct"),
        (["cat " * 90], "LearnedPrompt|position|token"),
    ):
        with pytest.raises(ValueError, match=message):
            head.vocabulary = names
    assert head.vocabulary == NAMES and head() is rows


def test_one_line_of_a_config(listed: Path, head: AveragedPrompt, text: Text) -> None:
    config = {"type": "subpt_dense.AveragedPrompt", "files": str(listed)}
    language = {"text": text, "templates": "toy", "names": {"generic": ["wolf"], "heldout": ["lynx"]}}
    built = MODELS.build(complete_prompt(config, language))
    built.vocabulary = NAMES
    torch.testing.assert_close(built(), head(), rtol=0, atol=0)
    assert built.grades == GRADES and head.grades is None


def test_identity(save: Save, text: Text, tmp_path: Path) -> None:
    files = [save(1, anchors=[NFL]), save(2, anchors=[NFL]), save(3)]
    write_prompt_list(tmp_path / "l.json", [ListedPrompt(Path(f), g) for f, g in zip(files, GRADES, strict=True)])
    head = AveragedPrompt(tmp_path / "l.json", text, vocabulary=NAMES)
    identity = head.identity()
    assert json.loads(json.dumps(identity)) == identity
    assert (identity["type"], identity["backbone"]) == ("AveragedPrompt", text["model"])
    assert identity["file"] == [f"{seed}/prompt.safetensors" for seed in (1, 2, 3)]
    assert [prompt["grade"] for prompt in identity["prompts"]] == [list(grade) for grade in GRADES]
    assert [prompt["origin"]["seed"] for prompt in identity["prompts"]] == [1, 2, 3]
    assert len({prompt["context_sha256"] for prompt in identity["prompts"]}) == 3
    (anchor,) = identity["anchors"]  # what NFL knew is said once
    assert (anchor["kind"], anchor["num_names"]) == ("generic", 2)
    assert AveragedPrompt(files, text, as_heldout=True).identity()["anchors"][0]["kind"] == "heldout"
    head.vocabulary = MORE
    assert head.identity() == identity
    other = AveragedPrompt([*files[:2], save(4)], text).identity()
    assert other != identity and other["prompts"][2] != identity["prompts"][2]


def test_what_a_prompt_knows_is_asked_of_each(save: Save, text: Text, caplog: pytest.LogCaptureFixture) -> None:
    head = AveragedPrompt([save(1), save(2, anchors=[NFL])], text)
    head.check_evaluated([*NAMES, "zebra"], novel=["zebra"])
    with pytest.raises(ValueError, match=r"with which .*2/prompt.safetensors was learned, must hold no evaluated name"):
        head.check_evaluated([*NAMES, "wolf"])
    with pytest.raises(ValueError, match=r"names that .*1/prompt.safetensors was trained with must hold none .* novel"):
        head.check_evaluated(NAMES, novel=NAMES[:1])
    held = AveragedPrompt([save(1), save(2, anchors=[{**NFL, "kind": "heldout"}])], text)
    logger = MMLogger.get_instance("averaged_test")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.WARNING)
    caplog.clear()  # another test's logger may have told of what was built above
    held.check_evaluated([*NAMES, "wolf"])
    assert ["wolf" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize("given", [[], "one", "missing"])
def test_files_are_needed(given: Any, files: list[str], text: Text, tmp_path: Path) -> None:
    cases: dict[str, tuple[Any, type[Exception], str]] = {
        "[]": ([], ValueError, "must name at least one prompt file. Got none"),
        "one": (files[0], ValueError, r"prompt list that ends in .json.*one prompt file is a `subpt_dense.LearnedPro"),
        "missing": ([*files, "a.safetensors", "b.safetensors"], FileNotFoundError, "Missing: a.safetens.*, b.safeten"),
    }
    value, error, message = cases[str(given)]
    with pytest.raises(error, match=message):
        AveragedPrompt(value, text)


def test_one_prompt_twice_is_refused(files: list[str], text: Text, tmp_path: Path) -> None:
    again = tmp_path / "again.safetensors"
    again.write_bytes(Path(files[1]).read_bytes())
    with pytest.raises(
        ValueError, match=r"different prompts. .*2/prompt.safetensors and .*again.safetensors hold the s"
    ):
        AveragedPrompt([*files, again], text)


def test_prompts_of_other_names_are_refused(files: list[str], save: Save, text: Text) -> None:
    other = save(4, vocabulary=("cat", "zebra"))
    message = r"same names. .*1/prompt.*: 3 names, such as 'traffic light'; .*4/prompt.*: 2 names, such as 'zebra'\."
    with pytest.raises(ValueError, match=message):
        AveragedPrompt([*files, other], text)
    with pytest.raises(ValueError, match=r"must be the 3 with which .*1/prompt.safetensors was trained. Got 1"):
        AveragedPrompt(files, text, names=["cat"])


def test_another_model_is_refused(listed: Path, text: Text, tmp_path: Path) -> None:
    _, weights = write_tiny_clip(tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"1/prompt.safetensors, .* does not: weights_hash: the file has"):
        AveragedPrompt(listed, {**text, "pretrained": weights})


def test_a_list_moves_with_its_folder(listed: Path, tmp_path: Path) -> None:
    before = read_prompt_list(listed)
    assert [prompt.grade for prompt in before] == list(GRADES)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    os.rename(tmp_path, moved)
    after = read_prompt_list(moved / "prompts.json")
    assert [os.path.relpath(prompt.file, moved) for prompt in after] == [
        os.path.relpath(prompt.file, tmp_path) for prompt in before
    ]
    os.rename(moved, tmp_path)


def test_a_list_refuses_what_it_did_not_list(listed: Path, save: Save, text: Text, tmp_path: Path) -> None:
    save(2)  # the same prompt, written anew
    assert len(read_prompt_list(listed)) == 3
    save(2, length=4)
    with pytest.raises(
        ValueError, match=r"2/prompt.safetensors must hold the prompt that .*prompts.json lists, .*learned an"
    ):
        AveragedPrompt(listed, text)
    os.remove(tmp_path / "1" / "prompt.safetensors")
    os.remove(tmp_path / "3" / "prompt.safetensors")
    with pytest.raises(FileNotFoundError, match=r"Missing are 2 of 3: .*1/prompt.safetensors, .*3/prompt.safetensors"):
        AveragedPrompt(listed, text)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"format": "other", "version": 1, "prompts": []}', '{"format": "subpt_dense.prompt_list"}']
    + ['{"format": "subpt_dense.prompt_list", "version": 1, "prompts": []}'],
)
def test_other_json_is_no_list(content: str, tmp_path: Path) -> None:
    (tmp_path / "l.json").write_text(content)
    with pytest.raises(ValueError, match=r"l.json must be a prompt list, JSON of format 'subpt_dense.prompt_list'"):
        read_prompt_list(tmp_path / "l.json")


def test_a_list_that_is_not_there_says_how_it_is_made(tmp_path: Path, text: Text) -> None:
    with pytest.raises(FileNotFoundError, match=r"none.json' does not exist. .* python tools/train_grades.py CONFIG"):
        AveragedPrompt(tmp_path / "none.json", text)


@pytest.mark.parametrize(("name", "count"), [("l.txt", 1), ("l.json", 0)])
def test_lists_that_are_not_written(name: str, count: int, files: list[str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"must end in .json and name at least one prompt. Got .*{name}' and {count} pro"
    ):
        write_prompt_list(tmp_path / name, [ListedPrompt(Path(files[0]), (0.5, 0.6))] * count)

"""The case table: a new head is one row here, and every behaviour test runs over it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from subpt_dense.prompts import ContextPrompt, PromptHead, save_prompt, save_rows
from subpt_dense.registry import MODELS

NAMES = ("cat", "traffic light", "dog")
MORE = ("wolf", "zebra")  # known to every head, in no vocabulary at first
NFL = {"names": ["lynx", "wolf"], "templates": "toy"}
KGCOOP = {"names": "trained", "templates": "single", "weight": 8.0, "name": "kgcoop"}

CASES: dict[str, dict[str, Any]] = {
    "template": {"type": "subpt_dense.TemplatePrompt"},
    "templates": {"type": "subpt_dense.TemplatePrompt", "templates": "toy"},
    "context": {"type": "subpt_dense.ContextPrompt", "length": 4},
    "context-words": {"type": "subpt_dense.ContextPrompt", "length": 4, "init_words": "a photo of a"},
    "nfl": {"type": "subpt_dense.ContextPrompt", "length": 3, "anchors": [NFL]},
    "nfl-kgcoop": {"type": "subpt_dense.ContextPrompt", "length": 3, "anchors": [NFL, KGCOOP]},
    "rows": {"type": "subpt_dense.RowsPrompt"},
    "learned": {"type": "subpt_dense.LearnedPrompt"},
    "averaged": {"type": "subpt_dense.AveragedPrompt"},
}
LEARNED = [name for name, case in CASES.items() if case["type"] == "subpt_dense.ContextPrompt"]

Build = Callable[..., PromptHead]


@pytest.fixture(scope="session")
def rows_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A rows file with six names, in another order than any vocabulary here."""
    path = tmp_path_factory.mktemp("rows") / "rows.safetensors"
    rows = normalize(torch.randn(6, 24, generator=torch.Generator().manual_seed(0)), dim=1)
    names = ("zebra", "dog", "Traffic_Light", "wolf", "cat", "bird")
    save_rows(path, rows, names, backbone="tiny", weights="random", weights_hash="0" * 64, prompt="drawn at random")
    return str(path)


@pytest.fixture(scope="session")
def prompt_path(tiny_clip: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A prompt file: two tokens, learned with names that are in no vocabulary here."""
    path = tmp_path_factory.mktemp("prompt") / "prompt.safetensors"
    head = ContextPrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, length=2, vocabulary=("horse", "sheep"))
    torch.nn.init.normal_(head.context, std=0.3, generator=torch.Generator().manual_seed(1))
    save_prompt(path, head, facts={"seed": 1})
    return str(path)


@pytest.fixture(scope="session")
def prompt_paths(
    prompt_path: str, tiny_clip: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str]:
    """Two prompt files of the same names."""
    path = tmp_path_factory.mktemp("second") / "prompt.safetensors"
    head = ContextPrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, length=2, vocabulary=("horse", "sheep"))
    torch.nn.init.normal_(head.context, std=0.3, generator=torch.Generator().manual_seed(2))
    save_prompt(path, head, facts={"seed": 2})
    return prompt_path, str(path)


@pytest.fixture
def build(tiny_clip: tuple[str, str], rows_path: str, prompt_path: str, prompt_paths: tuple[str, str]) -> Build:
    """Builds a head of the case table through the registry, seeded; keyword arguments go on top of the row."""

    def build_head(case: str, **changes: Any) -> PromptHead:
        torch.manual_seed(0)
        config = {"vocabulary": NAMES, **CASES[case], **changes}
        if config["type"] == "subpt_dense.RowsPrompt":
            config.setdefault("file", rows_path)
        else:
            if config["type"] == "subpt_dense.LearnedPrompt":
                config.setdefault("file", prompt_path)
            if config["type"] == "subpt_dense.AveragedPrompt":
                config.setdefault("files", list(prompt_paths))
            config.setdefault("text", {"model": tiny_clip[0], "pretrained": tiny_clip[1]})
        return MODELS.build(config)

    return build_head


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def head(case: str, build: Build) -> PromptHead:
    return build(case)


@pytest.fixture(params=LEARNED)
def learned(request: pytest.FixtureRequest, build: Build) -> PromptHead:
    return build(request.param)


@pytest.fixture(scope="session")
def plain() -> Callable[[Any], Any]:
    """What a value is after a trip through JSON; fails where it is not plain."""
    return lambda value: json.loads(json.dumps(value))

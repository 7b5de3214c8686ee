"""The prompt configs of ``configs/_base_/prompts``: each becomes the head, anchors and hooks that it is named for."""

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from subpt_dense.heads import complete_prompt
from subpt_dense.hooks import ConflictHook, SubspaceHook
from subpt_dense.prompts import ConditionalPrompt, ContextPrompt, TemplatePrompt
from subpt_dense.registry import HOOKS, MODELS
from subpt_dense.text import get_templates
from tests.prompts.conftest import NAMES

FOLDER = Path(__file__).parents[2] / "configs" / "_base_" / "prompts"
TASK = ["a drawing of a {}."]  # what the task says its templates are
#: Head, length, (name, kind, weight) of its anchors, hooks.
SHIPPED: dict[str, tuple[type, int, list[tuple], list[type]]] = {
    "template": (TemplatePrompt, 0, [], []),
    "template_ensemble": (TemplatePrompt, 0, [], []),
    "coop": (ContextPrompt, 16, [], []),
    "subpt": (ContextPrompt, 16, [], [SubspaceHook]),
    "nfl": (ContextPrompt, 16, [("nfl", "generic", 1.0)], []),
    "subpt_nfl": (ContextPrompt, 16, [("nfl", "generic", 1.0)], [SubspaceHook]),
    "subpt_nfl_heldout": (ContextPrompt, 16, [("nfl", "heldout", 1.0)], [SubspaceHook]),
    "kgcoop": (ContextPrompt, 16, [("kg", "trained", 8.0)], []),
    "cocoop": (ConditionalPrompt, 4, [], []),
    "prograd": (ContextPrompt, 16, [], [ConflictHook]),
}


def build(name: str, tiny_clip: tuple[str, str], **changes: Any) -> Any:
    language = {
        "text": {"model": tiny_clip[0], "pretrained": tiny_clip[1]},
        "templates": TASK,
        "names": {"generic": ["lynx", "wolf"], "heldout": ["zebra"]},
    }
    torch.manual_seed(0)
    prompt = complete_prompt(Config.fromfile(FOLDER / f"{name}.py").prompt, language)
    return MODELS.build({"vocabulary": NAMES, **prompt, **changes})


@pytest.mark.parametrize("name", SHIPPED)
def test_a_config_is_what_it_is_named_for(name, tiny_clip):
    head, (kind, length, anchors, hooks) = build(name, tiny_clip), SHIPPED[name]
    assert type(head) is kind and getattr(head, "length", 0) == length
    found = getattr(head, "anchors", ())
    assert [(anchor.name, anchor.kind, anchor.weight) for anchor in found] == anchors
    assert all(anchor.templates == tuple(TASK) for anchor in found)
    built = [HOOKS.build(dict(hook)) for hook in Config.fromfile(FOLDER / f"{name}.py").get("custom_hooks", ())]
    assert [type(hook) for hook in built] == hooks
    rows = head(torch.nn.functional.normalize(torch.ones(1, 24), dim=1))
    assert rows.shape[-2:] == (len(NAMES), 24)


def test_every_listed_config_is_there_and_no_two_are_one_head(tiny_clip):
    identities = []
    for name in SHIPPED:
        hooks = [HOOKS.build(dict(h)).settings for h in Config.fromfile(FOLDER / f"{name}.py").get("custom_hooks", ())]
        identities.append((build(name, tiny_clip).identity(), hooks))
    assert all(identities.count(identity) == 1 for identity in identities)


def test_the_ensemble_is_clips(tiny_clip):
    head = build("template_ensemble", tiny_clip)
    assert head.templates == get_templates("imagenet80") and len(head.templates) == 80


def test_prograd_compares_with_one_template():
    hook = HOOKS.build(dict(Config.fromfile(FOLDER / "prograd.py").custom_hooks[0]))
    assert hook.weight == 1.0 and len(hook.reference.templates) == 1

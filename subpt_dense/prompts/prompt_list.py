"""The prompt list: prompts of one training, one for each grade of regions, named by a small JSON file."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from subpt_dense.datasets import write_json
from subpt_dense.prompts.prompt_file import load_prompt

FORMAT = "subpt_dense.prompt_list"
VERSION = 1


class ListedPrompt(NamedTuple):
    """One prompt of a list.

    Attributes:
        file: The prompt file.
        grade: The IoUs ``(low, high)`` of the regions it was learned on.
    """

    file: Path
    grade: tuple[float, float]


def write_prompt_list(path: str | os.PathLike, prompts: Sequence[ListedPrompt]) -> None:
    """Write which prompts belong together; the whole list or nothing.

    Args:
        path: Ends in ``.json``. Prompt files are named by their place relative to it: the folder may be moved.
        prompts: At least one; their files exist.

    Raises:
        ValueError: If the path ends in something else, there is no prompt, or a prompt file is refused.
        FileNotFoundError: If a prompt file does not exist.
    """
    path = Path(path)
    if path.suffix != ".json" or not prompts:
        raise ValueError(
            f"A prompt list must end in .json and name at least one prompt. Got {str(path)!r} and {len(prompts)} "
            "prompts."
        )
    listed = [
        {
            "file": os.path.relpath(prompt.file, path.parent),
            "sha256": _digest(prompt.file),
            "grade": list(prompt.grade),
        }
        for prompt in prompts
    ]
    write_json(path, {"format": FORMAT, "version": VERSION, "prompts": listed}, indent=1)


def read_prompt_list(path: str | os.PathLike) -> tuple[ListedPrompt, ...]:
    """The prompts of a file of :func:`write_prompt_list`, in its order.

    Raises:
        FileNotFoundError: If the list, or a prompt file it names, does not exist; names all that do not.
        ValueError: If it is no such list, or a prompt file is not the one that was listed.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The prompt list {str(path)!r} does not exist. Learn its prompts first, with: "
            "python tools/train_grades.py CONFIG"
        )
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if (content["format"], content["version"]) != (FORMAT, VERSION):
            raise ValueError(f"format {content['format']!r}, version {content['version']!r}")
        listed = [(entry["file"], entry["sha256"], entry["grade"]) for entry in content["prompts"]]
        if not listed:
            raise ValueError("no prompts")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} must be a prompt list, JSON of format {FORMAT!r}, version {VERSION}. Got: {error!r}."
        ) from error
    prompts = [(ListedPrompt(path.parent / file, (grade[0], grade[1])), digest) for file, digest, grade in listed]
    missing = [str(prompt.file) for prompt, _ in prompts if not prompt.file.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Prompt files that {path} lists must exist. Missing are {len(missing)} of {len(prompts)}: "
            f"{', '.join(missing)}."
        )
    for prompt, digest in prompts:
        found = _digest(prompt.file)
        if found != digest:
            raise ValueError(
                f"{prompt.file} must hold the prompt that {path} lists, {digest[:12]}. Got {found[:12]}: it was "
                "learned anew since. Run tools/train_grades.py again to its end."
            )
    return tuple(prompt for prompt, _ in prompts)


def _digest(file: Path) -> str:
    """SHA-256 of what was learned; the same prompt need not be written in the same bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(load_prompt(file).parameters.items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()

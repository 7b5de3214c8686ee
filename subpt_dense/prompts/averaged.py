"""Several learned prompts as one: the mean of their rows (P prompts, K classes, D embedding)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from subpt_dense.prompts.base import PromptHead
from subpt_dense.prompts.held import Held
from subpt_dense.prompts.learned import LearnedPrompt
from subpt_dense.prompts.prompt_list import read_prompt_list
from subpt_dense.prompts.tower import frozen_maths
from subpt_dense.registry import MODELS
from subpt_dense.text import TextSpec, clean_name

#: What all prompts share, being of one tower.
_SHARED = ("backbone", "weights", "weights_hash", "precision")
#: What tells one prompt from another.
_OWN = ("context_sha256", "length", "width", "position", "init", "origin", "anchors")


class _Mean(NamedTuple):
    """Rows ``[K, D]``, and those they are the mean of."""

    rows: Tensor
    of: tuple[Tensor, ...]


@MODELS.register_module()
class AveragedPrompt(PromptHead):
    """``rows = normalize(mean_p rows_p)`` of prompts learned in other runs; nothing is learned.

    DetPro's region classifier (arXiv 2203.14940, context grading): one prompt for each IoU grade of regions, their unit
    rows averaged and normalised again. Each prompt is a :class:`LearnedPrompt`: what refuses its file there, does here.

    Args:
        files: A prompt list (``.json``, of ``tools/train_grades.py``), or the prompt files (``.safetensors``)
            themselves.
        text: The tower of the task, ``dict(model=..., pretrained=..., precision="fp32")``; its text weights must be
            those the prompts were learned with.
        names: As for :class:`LearnedPrompt`: the names every prompt must have been trained with.
        as_heldout: As for :class:`LearnedPrompt`.
        encoder: As for :class:`ContextPrompt`.
        max_tokens: As for :class:`ContextPrompt`.
        vocabulary: Class names in label order; may be set later.

    Attributes:
        parts: The P heads, in the order of the files.
        grades: For each, the IoUs of the regions it was learned on; None where the files were named one by one.

    Raises:
        FileNotFoundError: If the list or a file does not exist.
        ValueError: If a file is refused, two hold the same prompt, or two were trained with other names.
    """

    def __init__(
        self,
        files: str | os.PathLike | Sequence[str | os.PathLike],
        text: dict | TextSpec,
        names: Sequence[str] | Mapping[str, Any] | str | None = None,
        as_heldout: bool = False,
        encoder: str = "auto",
        max_tokens: int | None = None,
        vocabulary: Sequence[str] = (),
    ) -> None:
        super().__init__()
        paths, self.grades = _listed(files)
        self.parts = nn.ModuleList(
            LearnedPrompt(path, text, names, as_heldout=as_heldout, encoder=encoder, max_tokens=max_tokens)
            for path in paths
        )
        self._check_parts()
        self._mean: Held[_Mean] = Held()
        if vocabulary:
            self.vocabulary = vocabulary

    def _prompts(self) -> list[LearnedPrompt]:
        return cast(list[LearnedPrompt], list(self.parts))

    def _check_parts(self) -> None:
        first, *others = self._prompts()
        seen = {first.identity()["context_sha256"]: first.file}
        for part in others:
            context = part.identity()["context_sha256"]
            if context in seen:
                raise ValueError(
                    f"`files` of AveragedPrompt must hold different prompts. {seen[context]} and {part.file} hold the "
                    "same one."
                )
            seen[context] = part.file
            if _trained(part) != _trained(first):
                raise ValueError(
                    "`files` of AveragedPrompt must have been trained with the same names. "
                    f"{first.file}: {_some(first, part)}; {part.file}: {_some(part, first)}."
                )

    @property
    def embed_dim(self) -> int:
        """D, the length of a row."""
        return self._prompts()[0].embed_dim

    def _check_vocabulary(self, names: tuple[str, ...]) -> None:
        for part in self._prompts():
            part._check_vocabulary(names)

    def forward(self, image_features: Tensor | None = None) -> Tensor:
        """Unit rows ``[K, D]`` float32, without graph; computed again only after the vocabulary or the device changed.

        Raises:
            RuntimeError: If there is no vocabulary.
        """
        if not self.vocabulary:
            raise RuntimeError("`vocabulary` of AveragedPrompt is not set: assign the class names first.")
        for part in self._prompts():
            if part.vocabulary != self.vocabulary:
                part.vocabulary = self.vocabulary
        rows = tuple(part() for part in self._prompts())  # each keeps its own while nothing has changed
        mean = self._mean.get()
        if mean is None or any(mine is not theirs for mine, theirs in zip(mean.of, rows, strict=True)):
            with frozen_maths():
                mean = self._mean.put(_Mean(normalize(torch.stack(rows).mean(dim=0), dim=1), rows))
        return mean.rows

    def prompt_parameters(self) -> dict[str, nn.Parameter]:
        """Nothing is learned."""
        return {}

    def check_evaluated(self, names: Sequence[str], novel: Sequence[str] = ()) -> None:
        """Refuse or warn of each file as :meth:`LearnedPrompt.check_evaluated` does.

        Raises:
            ValueError: If results would call a prompt ignorant of a name it was learned with.
        """
        for part in self._prompts():
            part.check_evaluated(names, novel)

    def anchor_summary(self) -> list[dict[str, Any]]:
        """The anchors the prompts were learned with, each once."""
        found: list[dict[str, Any]] = []
        for part in self._prompts():
            found += [anchor for anchor in part.anchor_summary() if anchor not in found]
        return found

    def identity(self) -> dict[str, Any]:
        """What the prompts share; then each one's file, grade, context and origin. ``anchors``: those of all."""
        each = [part.identity() for part in self._prompts()]
        grades = self.grades or (None,) * len(each)
        return {
            "type": type(self).__name__,
            **{key: each[0][key] for key in _SHARED},
            "file": ["/".join(Path(part.file).parts[-2:]) for part in self._prompts()],
            "as_heldout": each[0]["as_heldout"],
            "anchors": self.anchor_summary(),
            "prompts": [
                {"grade": grade and list(grade), **{key: facts[key] for key in _OWN}}
                for grade, facts in zip(grades, each, strict=True)
            ],
        }


def _listed(
    files: str | os.PathLike | Sequence[str | os.PathLike],
) -> tuple[list[str | os.PathLike], tuple[tuple[float, float], ...] | None]:
    """The prompt files, and the grades where a list names them."""
    if isinstance(files, (str, os.PathLike)):
        if Path(files).suffix != ".json":
            raise ValueError(
                f"`files` of AveragedPrompt must be a prompt list that ends in .json, or several prompt files. "
                f"Got {str(files)!r}: one prompt file is a `subpt_dense.LearnedPrompt`."
            )
        listed = read_prompt_list(files)
        return [prompt.file for prompt in listed], tuple(prompt.grade for prompt in listed)
    if not files:
        raise ValueError("`files` of AveragedPrompt must name at least one prompt file. Got none.")
    missing = [str(path) for path in files if not Path(path).is_file()]
    if missing:
        raise FileNotFoundError(f"`files` of AveragedPrompt must exist. Missing: {', '.join(missing)}.")
    return list(files), None


def _trained(part: LearnedPrompt) -> dict[str, str]:
    return {clean_name(name).casefold(): name for name in part._trained}


def _some(part: LearnedPrompt, other: LearnedPrompt) -> str:
    names, theirs = _trained(part), _trained(other)
    own = [name for key, name in names.items() if key not in theirs]
    return f"{len(names)} names" + (f", such as {own[0]!r}" if own else "")

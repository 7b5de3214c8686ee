"""A training trajectory on disk: prompt parameters and gradients after every epoch (n epochs, P prompt numbers)."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

FILE_NAME = "trajectory.safetensors"
_FORMAT = "subpt_dense trajectory 1"
_TENSORS = ("initial", "epochs", "parameters", "gradients", "steps", "inside")


class Record(NamedTuple):
    """One row of a :class:`Trajectory`, on the CPU."""

    epoch: int
    phase: str
    parameters: Tensor
    gradient: Tensor
    steps: int
    inside: float


@dataclass(frozen=True)
class Trajectory:
    """What :class:`subpt_dense.hooks.TrajectoryHook` records of a run.

    Args:
        shapes: Name and shape of every prompt parameter, in the order of their concatenation.
        initial: ``[P]`` float32, the parameters before training.
        epochs: ``[n]`` int64, epochs done when each row was taken, counted over both passes, rising.
        phases: n times ``"explore"`` or ``"train"``.
        parameters: ``[n, P]`` float32, at the end of the epoch.
        gradients: ``[n, P]`` float32, the epoch's mean gradient, before any projection.
        steps: ``[n]`` int64, optimizer steps in the epoch.
        inside: ``[n]`` float64, the share ``sum |U g|^2 / sum |g|^2`` of the epoch's gradients that lies in the run's
            own subspace, in [0, 1]; NaN where there is none yet.

    Raises:
        ValueError: If the rows are not equally many, or the numbers not as many as the shapes say.
    """

    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    initial: Tensor
    epochs: Tensor
    phases: tuple[str, ...]
    parameters: Tensor
    gradients: Tensor
    steps: Tensor
    inside: Tensor

    def __post_init__(self) -> None:
        """Check the shapes against each other."""
        length = sum(torch.Size(shape).numel() for _, shape in self.shapes)
        count = len(self.phases)
        expected = {"initial": [length], "parameters": [count, length], "gradients": [count, length]}
        expected |= {name: [count] for name in ("epochs", "steps", "inside")}
        for name, shape in expected.items():
            got = list(getattr(self, name).shape)
            if got != shape:
                raise ValueError(
                    f"`{name}` of a Trajectory of {count} epochs and {length} numbers must have shape {shape}. "
                    f"Got {got}."
                )

    def __len__(self) -> int:
        """n, the number of epochs recorded."""
        return len(self.phases)

    @classmethod
    def of(
        cls, shapes: tuple[tuple[str, tuple[int, ...]], ...], initial: Tensor, records: Sequence[Record]
    ) -> "Trajectory":
        """A trajectory of these rows; there may be none."""
        empty = initial.new_zeros(0, len(initial))
        return cls(
            shapes=shapes,
            initial=initial,
            epochs=torch.tensor([record.epoch for record in records], dtype=torch.long),
            phases=tuple(record.phase for record in records),
            parameters=torch.stack([record.parameters for record in records]) if records else empty,
            gradients=torch.stack([record.gradient for record in records]) if records else empty,
            steps=torch.tensor([record.steps for record in records], dtype=torch.long),
            inside=torch.tensor([record.inside for record in records], dtype=torch.float64),
        )

    def records(self) -> list[Record]:
        """The rows one by one."""
        columns = (self.epochs.tolist(), self.phases, self.parameters, self.gradients)
        counts = (self.steps.tolist(), self.inside.tolist())
        return [Record(*row) for row in zip(*columns, *counts, strict=True)]

    def of_phase(self, name: str) -> "Trajectory":
        """The epochs of one pass alone."""
        return self.of(self.shapes, self.initial, [record for record in self.records() if record.phase == name])

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file, atomically; its folder is made."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {"format": _FORMAT, "shapes": json.dumps(self.shapes), "phases": json.dumps(self.phases)}
        partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            save_file({name: getattr(self, name).contiguous() for name in _TENSORS}, partial, metadata=facts)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> "Trajectory":
        """Inverse of :meth:`write`.

        Args:
            path: The file, or the work dir that holds it as ``trajectory.safetensors``.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged or something else.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise FileNotFoundError(
                f"A trajectory must be an existing file. Got {path}. Train with `subpt_dense.TrajectoryHook` for one."
            )
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                if facts.get("format") != _FORMAT:
                    raise ValueError(f"{path} must be a {_FORMAT!r} file. Got {facts.get('format')!r}.")
                tensors = {name: file.get_tensor(name) for name in _TENSORS}
        except SafetensorError as error:
            raise ValueError(f"{path} must be a whole trajectory file. Got: {error}.") from error
        shapes = tuple((name, tuple(shape)) for name, shape in json.loads(facts["shapes"]))
        return cls(shapes=shapes, phases=tuple(cast(list[str], json.loads(facts["phases"]))), **tensors)

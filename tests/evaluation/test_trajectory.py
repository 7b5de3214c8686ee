"""The trajectory file: what is read equals what was written; anything else is refused."""

import math

import pytest
import torch
from safetensors.torch import save_file

from subpt_dense.evaluation import Trajectory
from subpt_dense.evaluation.trajectory import Record

SHAPES = (("context", (2, 3)), ("scale", ()))


def trajectory(count: int = 3) -> Trajectory:
    torch.manual_seed(0)
    phases = ["explore", "train", "train", "train"]
    rows = [Record(i + 1, phases[i], torch.randn(7), torch.randn(7), 2, 0.5 if i else math.nan) for i in range(count)]
    return Trajectory.of(SHAPES, torch.randn(7), rows)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_round_trip(tmp_path, count):
    written = trajectory(count)
    written.write(tmp_path / "new" / "trajectory.safetensors")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["trajectory.safetensors"]
    for place in (tmp_path / "new", tmp_path / "new" / "trajectory.safetensors"):
        read = Trajectory.read(place)
        assert read.shapes == SHAPES and read.phases == written.phases and len(read) == count
        for name in ("initial", "epochs", "parameters", "gradients", "steps"):
            assert torch.equal(getattr(read, name), getattr(written, name))
        torch.testing.assert_close(read.inside, written.inside, rtol=0, atol=0, equal_nan=True)


def test_of_phase():
    train = trajectory().of_phase("train")
    assert train.epochs.tolist() == [2, 3] and torch.equal(train.parameters, trajectory().parameters[1:])
    assert len(trajectory().of_phase("other")) == 0


def test_refused(tmp_path):
    file = tmp_path / "trajectory.safetensors"
    with pytest.raises(FileNotFoundError, match=r"must be an existing file\. Got .*Train with `subpt_dense\.Traject"):
        Trajectory.read(file)
    save_file({"rows": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"must be a 'subpt_dense trajectory 1' file\. Got None\."):
        Trajectory.read(file)
    trajectory().write(file)
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match="must be a whole trajectory file"):
        Trajectory.read(file)


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"`initial` of a Trajectory of 1 epochs and 7 numbers .* \[7\]\. Got \[6\]"):
        Trajectory.of(SHAPES, torch.zeros(6), trajectory(1).records())

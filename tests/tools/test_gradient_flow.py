"""The analysis tool as its user runs it: two work dirs in, a picture, a JSON and tables out; bad ones refused."""

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from subpt_dense.evaluation import Trajectory
from subpt_dense.evaluation.trajectory import Record
from subpt_dense.text import TextSpec, get_tower, load_tower

TOOL = Path(__file__).parents[2] / "tools" / "analysis" / "gradient_flow.py"
TOKENS, WIDTH, EPOCHS = 2, 32, 8


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    spec = importlib.util.spec_from_file_location("gradient_flow_tool", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def call(*arguments: object) -> None:
        monkeypatch.setattr("sys.argv", ["gradient_flow.py", *map(str, arguments)])
        module.main()

    return call


def work_dir(folder: Path, clip: tuple[str, str], context: torch.Tensor, seed: int) -> Path:
    """A finished run whose context ends at the given one."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(EPOCHS, context.numel(), generator=generator)
    rows = context.flatten() - steps.flip(0).cumsum(0).flip(0) + steps[-1]
    rows[-1] = context.flatten()
    phases = ["explore"] * 3 + ["train"] * EPOCHS if seed else ["train"] * EPOCHS
    places = torch.cat([rows[:3], rows]) if seed else rows
    records = [
        Record(i + 1, phase, places[i], torch.randn(64, generator=generator), 2, math.nan)
        for i, phase in enumerate(phases)
    ]
    Trajectory.of((("context", (TOKENS, WIDTH)),), rows[0], records).write(folder / "trajectory.safetensors")
    text = f"dict(model={clip[0]!r}, pretrained={clip[1]!r})"
    (folder / "cls_tiny_coop.py").write_text(f"model = dict(prompt=dict(type='x'), language=dict(text={text}))\n")
    return folder


def test_two_runs(
    tmp_path: Path, tiny_clip: tuple[str, str], run: Callable[..., None], capsys: pytest.CaptureFixture
) -> None:
    tower = get_tower(load_tower(TextSpec(*tiny_clip)), torch.device("cpu"))
    ids = [tower.token_ids(word)[0] for word in ("star", "red")]
    context = tower.token_embedding(torch.tensor(ids)).detach() + 1e-4  # a context that says "star red"
    first = work_dir(tmp_path / "a", tiny_clip, context, 0)
    second = work_dir(tmp_path / "b", tiny_clip, context.flip(0), 1)
    run(f"coop={first}", second, "--out", tmp_path / "out", "--rank", 2)
    result = json.loads((tmp_path / "out" / "gradient_flow.json").read_text())
    assert list(result["runs"]) == ["coop", "b"] and result["runs"]["b"]["early"] == 3  # the exploration's length
    assert [token[0]["word"] for token in result["words"]["coop"]] == ["star", "red"]
    assert [token[0]["word"] for token in result["words"]["b"]] == ["red", "star"]
    assert len(result["words"]["b"][0]) == 3 and len(result["plane"]["runs"]["b"]) == EPOCHS
    assert (tmp_path / "out" / "gradient_flow.png").stat().st_size > 10_000
    printed = capsys.readouterr().out
    assert "gradient inside, early epochs" in printed and "coop: words nearest" in printed
    names = tmp_path / "words.txt"
    names.write_text("blue\ncircle of red\n")
    run(first, "--out", tmp_path / "out", "--rank", 2, "--early", 3, "--words", names, "--nearest", 1)
    only = json.loads((tmp_path / "out" / "gradient_flow.json").read_text())["words"]["a"]
    assert {token[0]["word"] for token in only} <= {"blue", "circle", "of", "red"} and only[1][0]["word"] == "red"


def test_refused(tmp_path: Path, tiny_clip: tuple[str, str], run: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"error: A trajectory must be an existing file\. Got .*TrajectoryHook"):
        run(tmp_path)
    folder = work_dir(tmp_path / "a", tiny_clip, torch.ones(TOKENS, WIDTH), 0)
    with pytest.raises(SystemExit, match=r"error: `early` of gradient_flow must be in \[2, 7\] for 8 .*Got 9\."):
        run(folder, "--early", 9)
    (folder / "cls_tiny_coop.py").unlink()
    with pytest.raises(SystemExit, match=r"must hold the run's config, one \.py file\. Got 0\."):
        run(folder, "--early", 3, "--rank", 2)
    assert not (tmp_path / "work_dirs").exists()

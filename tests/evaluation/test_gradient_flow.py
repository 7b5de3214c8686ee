"""The analysis on trajectories whose geometry is known, the nearest words, and the picture."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from subpt_dense.evaluation import Trajectory
from subpt_dense.evaluation.gradient_flow import gradient_flow, plane
from subpt_dense.evaluation.gradient_flow_plot import plot_flow
from subpt_dense.evaluation.nearest_words import nearest_words
from subpt_dense.evaluation.trajectory import Record

LENGTH, EARLY, EPOCHS = 12, 4, 12


def axis(index: int) -> torch.Tensor:
    return torch.eye(LENGTH)[index]


def walk(*, explored: bool = False, turn: bool = True) -> Trajectory:
    """Moves along axes 0 and 1 for EARLY epochs; then, with a turn, along axis 2. Gradients point where it goes."""
    place, records = torch.ones(LENGTH), []
    for epoch in range(1, EPOCHS + 1):
        late = epoch > EARLY and turn
        direction = axis(2) if late else axis(epoch % 2)
        place = place + direction * epoch
        gradient = -direction + (axis(0) if late else 0)  # half of a late gradient's square is inside
        records.append(Record(epoch, "train", place, gradient, 2, math.nan))
    if explored:
        first = [record._replace(phase="explore") for record in records[:EARLY]]
        moved = [record._replace(epoch=record.epoch + EARLY, inside=0.5) for record in records]
        records = [*first, *moved]
    return Trajectory.of((("context", (3, 4)),), torch.ones(LENGTH), records)


def test_a_walk_that_turns() -> None:
    flow = gradient_flow(walk(), early=EARLY, rank=2)
    assert flow["epochs"] == list(range(1, EPOCHS + 1))
    np.testing.assert_allclose(flow["inside"], [1.0] * EARLY + [0.5] * (EPOCHS - EARLY), atol=1e-9)
    assert flow["explained"]["early"][1] == pytest.approx(1) and len(flow["explained"]["early"]) == EARLY - 1
    assert flow["explained"]["whole"][0] < 0.999 < flow["explained"]["whole"][2]
    first, _, last = flow["windows"]
    assert (first["first"], first["last"], last["last"]) == (1, EARLY, EPOCHS)
    np.testing.assert_allclose(first["angles"], [0, 0], atol=1e-5)
    np.testing.assert_allclose(last["angles"], [90], atol=1e-5)  # one direction only: axis 2
    assert flow["moved_inside"][0] is None
    even, odd = 2 + 4, 3  # steps along axes 0 and 1 after epoch 1, epoch 5 and later along axis 2
    late = sum(range(5, EPOCHS + 1))
    assert flow["moved_inside"][-1] == pytest.approx((even**2 + odd**2) / (even**2 + odd**2 + late**2))
    assert flow["steps_inside"] is None and flow["chance"] == 2 / LENGTH
    np.testing.assert_allclose(flow["gradient_norm"][-1], math.sqrt(2))


def test_a_walk_that_stays() -> None:
    flow = gradient_flow(walk(turn=False), early=EARLY, rank=2)
    np.testing.assert_allclose(flow["inside"], 1, atol=1e-9)
    np.testing.assert_allclose(flow["windows"][-1]["angles"], [0, 0], atol=1e-5)
    assert flow["moved_inside"][-1] == pytest.approx(1)


def test_an_exploring_pass_is_what_is_early() -> None:
    flow = gradient_flow(walk(explored=True), early=EARLY, rank=2)
    assert flow["epochs"] == list(range(1, EPOCHS + 1)) and flow["steps_inside"] == [0.5] * EPOCHS
    assert flow["inside"] == pytest.approx(gradient_flow(walk(), early=EARLY, rank=2)["inside"])


def test_plane_keeps_distances_of_what_lies_in_it() -> None:
    runs = {"turns": walk(), "stays": walk(turn=False)}
    found = plane(runs)
    assert len(found["runs"]["turns"]) == EPOCHS and 0.5 < sum(found["shares"]) <= 1
    points = np.array(found["runs"]["stays"])
    flat = plane({"stays": walk(turn=False)})
    assert sum(flat["shares"]) == pytest.approx(1)
    points = np.array(flat["runs"]["stays"])
    place = walk(turn=False).parameters.double()
    expected = (place[-1] - place[0]).norm()
    assert np.linalg.norm(points[-1] - points[0]) == pytest.approx(expected.item())


def test_refused() -> None:
    with pytest.raises(ValueError, match=r"`early` of gradient_flow must be in \[2, 11\] for 12 .*Got 12\."):
        gradient_flow(walk(), early=12, rank=2)
    with pytest.raises(ValueError, match=r"`rank` must be at most the numerical rank .*these 4 vary in 2"):
        gradient_flow(walk(), early=EARLY, rank=3)
    other = Trajectory.of((("context", (4, 3)),), torch.ones(LENGTH), walk().records())
    with pytest.raises(ValueError, match=r"must be of the same parameters, at least one\. Got .*\(3, 4\).*\(4, 3\)"):
        plane({"a": walk(), "b": other})


def test_nearest_words() -> None:
    embeddings = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    context = torch.tensor([[0.9, 0.0], [0.0, 2.0]], requires_grad=True)
    found = nearest_words(context, embeddings, ["origin", "east", "north"], count=2)
    assert [[one["word"] for one in row] for row in found] == [["east", "origin"], ["north", "origin"]]
    assert [row[0]["distance"] for row in found] == [pytest.approx(0.1), pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("shape", "words", "count", "message"),
    [
        ((3,), "abc", 1, r"must have shapes \[M, W\] and \[V, W\]\. Got \[3\] and \[3, 2\]\."),
        ((2, 4), "abc", 1, r"Got \[2, 4\] and \[3, 2\]\."),
        ((1, 2), "ab", 1, r"`words` must name the 3 embeddings, and `count` be in \[1, 3\]\. Got 2 words and 1\."),
        ((1, 2), "abc", 4, r"Got 3 words and 4\."),
    ],
)
def test_nearest_words_refuses(shape: tuple[int, ...], words: str, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_words(torch.zeros(shape), torch.zeros(3, 2), list(words), count)


def test_picture(tmp_path: Path) -> None:
    runs = {"coop": walk(), "subpt": walk(explored=True, turn=False)}
    flows = {name: gradient_flow(run, early=EARLY, rank=2) for name, run in runs.items()}
    plot_flow(flows, plane(runs), tmp_path / "new" / "flow.png")
    assert cv2.imread(str(tmp_path / "new" / "flow.png")).std() > 10

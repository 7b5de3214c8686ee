"""Base and novel accuracy against a loop over images."""

from typing import Any

import pytest
import torch

from subpt_dense.classification import GroupAccuracy

META: dict[str, Any] = {
    "classes": ("a", "b", "c", "d", "e"),
    "base_classes": ("a", "b", "c"),
    "novel_classes": ("d", "e"),
    "annotation_file": "list.json",
    "annotation_sha256": "0" * 64,
    "set": "letters",
    "part": "test",
}


def score(
    logits: torch.Tensor, labels: torch.Tensor, meta: dict[str, Any] = META, index: Any = None, batch: int = 7
) -> Any:
    metric = GroupAccuracy(protocol="letters-3/2")
    metric.dataset_meta = meta
    indices = torch.arange(len(labels)) if index is None else index
    for part, label, index in zip(logits.split(batch), labels.split(batch), indices.split(batch), strict=True):
        metric.process({}, [{"logits": part, "label": label, "index": index}])
    return metric.evaluate(len(labels)), metric.table


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    hits: dict[str, list[bool]] = {"base": [], "novel": [], "all": []}
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        first, last = (0, 3) if label < 3 else (3, 5)
        hits["base" if label < 3 else "novel"].append(max(range(first, last), key=row.__getitem__) == label)
        hits["all"].append(max(range(5), key=row.__getitem__) == label)
    scores = {key: 100 * sum(value) / len(value) for key, value in hits.items()}
    b, n = scores["base"], scores["novel"]
    return scores | {"harmonic": 2 * b * n / (b + n)}


def test_equals_a_loop_over_images() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(200, 5), torch.randint(0, 5, (200,))
    found, table = score(logits, labels)
    assert found == pytest.approx({f"cls/{key}": value for key, value in by_hand(logits, labels).items()})
    assert found["cls/base"] > found["cls/all"]  # fewer names to mistake it for
    assert table.images == 200 and table.groups["novel"] == {"accuracy": found["cls/novel"], "classes": 2}


def test_images_that_several_processes_repeat_count_once() -> None:
    torch.manual_seed(0)
    logits, labels, index = torch.randn(9, 5), torch.randint(0, 5, (9,)), torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1])
    logits[7:], labels[7:] = logits[:2], labels[:2]
    found, table = score(logits, labels, index=index)
    assert found == pytest.approx({f"cls/{key}": v for key, v in by_hand(logits[:7], labels[:7]).items()})
    assert table.images == 7


def test_one_group_alone_has_no_harmonic_mean() -> None:
    meta = META | {"classes": ("d", "e")}
    found, table = score(torch.eye(2), torch.tensor([0, 0]), meta)
    assert found == {"cls/novel": 50.0, "cls/all": 50.0}
    assert set(table.groups) == {"novel", "all"}


def test_rows_of_other_names_are_refused() -> None:
    with pytest.raises(ValueError, match="a logit for each of the 5 names of the data set. Got 4"):
        score(torch.eye(4), torch.arange(4))

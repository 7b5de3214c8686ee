"""Batches of the past are passed over, unread where that changes nothing, and what follows is what would have."""

from collections.abc import Iterator
from unittest import mock

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader, Dataset, Sampler

from subpt_dense.hooks.resumed_data import ResumedData, can_move_on


class Counting(Dataset[int]):
    """Its own indices; counts how many were read in this process."""

    def __init__(self) -> None:
        self.read = 0

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> int:
        self.read += 1
        return index


class Pairs(BatchSampler):
    """Batches by a rule of its own: only even numbers."""

    def __iter__(self) -> Iterator[list[int]]:
        even = (index for index in self.sampler if index % 2 == 0)
        return iter(zip(even, even, strict=False))  # type: ignore[arg-type]


def make(kind: str) -> "DataLoader[int]":
    data = Counting()
    sampler: Sampler[int] = (DefaultSampler if kind == "finite" else InfiniteSampler)(data, shuffle=True, seed=4)
    batches = Pairs(sampler, 2, True) if "pairs" in kind else BatchSampler(sampler, 2, drop_last=False)
    return DataLoader(data, batch_sampler=batches, num_workers=2 if "workers" in kind else 0, collate_fn=tuple)


KINDS = ("endless", "endless, workers", "finite", "endless, pairs")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("done", [0, 3, 9])
def test_the_batches_after_the_past_are_the_same(kind: str, done: int) -> None:
    with mock.patch("mmengine.runner.loops.time.sleep"):  # mmengine waits 2 s where the data starts again
        whole = _InfiniteDataloaderIterator(make(kind))
        expected = [next(whole) for _ in range(done + 5)]
        loader, calls = make(kind), []
        data = ResumedData(_InfiniteDataloaderIterator(loader), loader, done, lambda: calls.append("restored"))
        past = [next(data) for _ in range(done)]
        assert calls == []  # nothing of the past may draw after it
        assert [next(data) for _ in range(5)] == expected[done:]
    assert calls == ["restored"]
    assert past == ([None] * done if kind == "endless" else expected[:done])


@pytest.mark.parametrize("kind", KINDS)
def test_only_an_endless_sampler_without_workers_is_moved_on(kind: str) -> None:
    loader = make(kind)
    assert can_move_on(loader) == (kind == "endless")
    data = ResumedData(_InfiniteDataloaderIterator(loader), loader, 3, lambda: None)
    for _ in range(3):
        next(data)
    if "workers" not in kind:  # theirs read in their own processes
        assert loader.dataset.read == (0 if kind == "endless" else 6)  # type: ignore[attr-defined]


def test_each_of_two_processes_moves_on_in_its_own_half() -> None:
    with mock.patch("mmengine.dataset.sampler.get_dist_info", return_value=(1, 2)):
        loader, whole = make("endless"), iter(make("endless"))
    expected = [next(whole) for _ in range(6)]
    data = ResumedData(_InfiniteDataloaderIterator(loader), loader, 4, lambda: None)
    assert [next(data) for _ in range(6)] == [None] * 4 + expected[4:]

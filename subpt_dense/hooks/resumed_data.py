"""The data of a resumed iteration-based run, brought to where it was when the run stopped."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from mmengine.dataset import InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader


class ResumedData:
    """Takes the place of an iteration-based loop's data iterator.

    mmengine's loop asks the iterator of a resumed run for all batches of its past, whose images would be read only to
    be thrown away. Here an infinite sampler without workers is moved on at once, and the past is a row of ``None``.
    Workers draw random numbers as they read, so that there, and with other samplers, the past is read indeed.

    Args:
        data: The loop's own iterator, not yet asked for anything.
        loader: The data loader it goes over.
        done: Batches of the past, >= 0.
        restore: Called once, when the past is over and before the next batch is read: puts the random numbers back.
    """

    def __init__(self, data: Iterator[Any], loader: "DataLoader[Any]", done: int, restore: Callable[[], None]) -> None:
        self._data = data
        self._past = done
        self._restore: Callable[[], None] | None = restore
        self._moved = can_move_on(loader)
        if self._moved:
            batches: Any = loader.batch_sampler
            # The sampler hands out one endless row of indices: what is taken here, the loader will not get.
            for _ in islice(batches.sampler.indices, done * batches.batch_size):
                pass

    def __iter__(self) -> Iterator[Any]:
        """Itself."""
        return self

    def __next__(self) -> Any:
        """The next batch; ``None`` for one of the past that is not read."""
        if self._past > 0:
            self._past -= 1
            return None if self._moved else next(self._data)
        if self._restore is not None:
            self._restore()
            self._restore = None
        return next(self._data)


def can_move_on(loader: "DataLoader[Any]") -> bool:
    """Whether batches can be passed over without reading them: no workers, and batches in a row of an infinite
    sampler."""
    batches = loader.batch_sampler
    return loader.num_workers == 0 and type(batches) is BatchSampler and type(batches.sampler) is InfiniteSampler

"""A value that stays with one live module."""

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """A slot for what a module can always compute again: cached rows, features that still carry their graph.

    As an attribute of an ``nn.Module`` it keeps its value out of the state dict, of ``.to()`` and of DDP's buffer
    broadcast. Copies and pickles of the module start with an empty slot: a deepcopy of a tensor that carries a graph
    would fail.
    """

    def __init__(self) -> None:
        self._key: Hashable = None
        self._value: T | None = None

    def put(self, value: T, key: Hashable = None) -> T:
        """Keep ``value`` under ``key``, in place of whatever was there."""
        self._key, self._value = key, value
        return value

    def get(self, key: Hashable = None) -> T | None:
        """The value, if there is one and it was put under this ``key``."""
        return self._value if self._key == key else None

    def take(self) -> T | None:
        """The value, whatever its key, leaving the slot empty."""
        value, self._key, self._value = self._value, None, None
        return value

    def __copy__(self) -> "Held[T]":
        return type(self)()

    def __deepcopy__(self, memo: dict) -> "Held[T]":
        return type(self)()

    def __reduce__(self) -> tuple:
        return type(self), ()

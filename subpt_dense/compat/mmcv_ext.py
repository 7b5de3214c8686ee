"""A stand-in for ``mmcv._ext``, the compiled module that every ``mmcv.ops`` file loads on import.

``mmcv-lite`` ships ``mmcv/ops`` without it. The stand-in is offered by an import finder at the *end* of
``sys.meta_path``: Python asks it only after every other finder has failed, so a compiled extension, where there is one,
always wins.
"""

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

_NAME = "mmcv._ext"


class MissingOperatorError(RuntimeError):
    """An mmcv operator was called that only a compiled mmcv provides."""


class MmcvExt(ModuleType):
    """Module whose known operators are those of :mod:`subpt_dense.compat.ops`; any other one raises when *called*."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from subpt_dense.compat import ops

        operator = ops.OPERATORS.get(name) or _missing(name)
        setattr(self, name, operator)
        return operator


def _missing(name: str) -> Callable[..., Any]:
    def operator(*args: Any, **kwargs: Any) -> Any:
        raise MissingOperatorError(
            f"`{name}` of mmcv needs a compiled mmcv; here is mmcv-lite with the stand-in of subpt_dense.compat. "
            "Use a model without this operator, or replace mmcv-lite by a full mmcv==2.1.0 built for this torch."
        )

    operator.__name__ = name
    return operator


class _ExtFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _NAME:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin="subpt_dense.compat")

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return MmcvExt(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to run: operators are looked up on first use."""


def install_mmcv_ext() -> None:
    """Offer the stand-in to whoever imports ``mmcv._ext``, unless that is done already. Does not import mmcv."""
    if not any(isinstance(finder, _ExtFinder) for finder in sys.meta_path):
        sys.meta_path.append(_ExtFinder())

"""Several Runners in one process: each with its own globals, none on the console."""

import contextlib
import io
from collections.abc import Iterator

from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """mmengine logs to the console and to a file: keep the file only, the console shows all runs together."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@contextlib.contextmanager
def own_globals() -> Iterator[None]:
    """Drop a Runner's loggers, hubs and scopes at its end: mmengine keeps each for the rest of the process."""
    managers = (DefaultScope, MessageHub, MMLogger, Visualizer)
    before = [manager._instance_dict.copy() for manager in managers]
    try:
        yield
    finally:
        for logger in set(MMLogger._instance_dict.values()) - set(before[2].values()):
            for handler in logger.handlers:
                handler.close()
        for manager, instances in zip(managers, before, strict=True):
            manager._instance_dict.clear()
            manager._instance_dict.update(instances)

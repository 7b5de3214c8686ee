"""What one process does for all of a run, however long it takes."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from mmengine.dist import barrier, get_world_size, is_main_process
from torch import distributed

#: A barrier of the run's own group would end the job after that group's timeout: NCCL's is ten minutes.
_PATIENCE = timedelta(days=7)


def by_first_process(make: Callable[[], Any]) -> None:
    """Call ``make`` in the first process; the others wait for it, and fail if it fails or dies.

    Every process must call this. They wait in a gloo group of their own, so that no collective of the run is pending.

    Args:
        make: What is called, once.

    Raises:
        Exception: In the first process whatever ``make`` raises.
        RuntimeError: In the others, saying what that was.
    """
    if get_world_size() == 1:
        make()
        return
    barrier()  # one that died before would be waited for as long as the others wait here
    group: Any = distributed.new_group(backend="gloo", timeout=_PATIENCE)
    failure: list[str | None] = [None]
    try:
        if is_main_process():
            try:
                make()
            except BaseException as error:
                failure = [f"{type(error).__name__}: {error}"]
                raise
            finally:
                distributed.broadcast_object_list(failure, src=0, group=group)
            return
        distributed.broadcast_object_list(failure, src=0, group=group)
    finally:
        distributed.destroy_process_group(group)
    if failure[0] is not None:
        raise RuntimeError(f"The first process of the run failed, and this one waited for it. It said {failure[0]}")

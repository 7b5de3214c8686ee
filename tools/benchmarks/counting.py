"""What a step costs, counted and not timed: floating-point operations, bytes kept for backward, most bytes at once."""

import gc
import os
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.autograd.profiler import profile
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, mm_flop, sdpa_backward_flop_count, sdpa_flop_count

MIB = 2**20

_ATEN = torch.ops.aten

os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # torch's profiler would report a missing GPU as an error


class Counts(NamedTuple):
    """What one call costs.

    Attributes:
        flops: Floating-point operations of matrix products, two for a multiplication and its addition. Attention counts
            as if it were not causal, as in torch's own counter: all L x L scores, and once more in backward, where the
            fused kernels compute them again.
        saved: Bytes that autograd keeps from forward to backward: every storage once and whole, none that was there
            before the call (weights, cached constants, the context). What happens within a checkpoint
            (``torch.utils.checkpoint``) is not seen: of a checkpointed part this is what stays outside.
    """

    flops: int
    saved: int


def storages_alive() -> frozenset[int]:
    """Addresses of all tensor storages there are: the ``before`` of :func:`count`."""
    gc.collect()  # what is garbage now should not be taken for a constant
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    return frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.layout == torch.strided)


def count(call: Callable[[], object], before: frozenset[int]) -> Counts:
    """Run ``call``, forward and backward, and count.

    Args:
        call: What is computed once and then kept (checks, constants) must have been: call it once beforehand.
        before: From :func:`storages_alive`; none of these tensors may have been freed since.
    """
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in before:
            kept[storage.data_ptr()] = storage.nbytes()  # it lives until backward: nothing else comes to its place
        return tensor

    counter = FlopCounterMode(display=False, custom_mapping=_MORE_FLOPS)
    with counter, saved_tensors_hooks(pack, lambda tensor: tensor):
        call()
    return Counts(int(counter.get_total_flops()), sum(kept.values()))


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes of tensor memory in use at once during ``call``, above what was in use at its start.

    From the allocator's own records (torch's profiler): temporaries within an operator count, and what a checkpoint
    computes again; scratch memory of the BLAS does not. Not to be called while something else follows each operator in
    Python, as :func:`count` does: that keeps tensors alive for longer.
    """
    with profile(profile_memory=True) as recorded:
        call()
    events = [event for event in recorded.kineto_results.events() if event.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(
    gradient: torch.Size, query: torch.Size, key: torch.Size, value: torch.Size, *_: object, **__: object
) -> int:
    return sdpa_backward_flop_count(gradient, query, key, value)


def _added_product(_: torch.Size, left: torch.Size, right: torch.Size, **__: object) -> int:
    return bmm_flop(left, right)


def _packed_product(x: torch.Size, _: object, weight: torch.Size, *__: object, **___: object) -> int:
    return mm_flop(x, (weight[1], weight[0]))


#: What torch's counter does not know: the CPU's fused attention, a product added in place, MKL's packed layers.
_MORE_FLOPS = {
    _ATEN._scaled_dot_product_flash_attention_for_cpu: _attention,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _ATEN.baddbmm_: _added_product,
}
if torch.backends.mkl.is_available():
    _MORE_FLOPS[torch.ops.mkl._mkl_linear] = _packed_product

"""BatchNorm over the pictures of all processes, on CPUs (N pictures of a process, C channels, H×W pixels)."""

from typing import Any, cast

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Normalises with mean and variance over all processes' pictures in training; in testing as any BatchNorm.

    torch's ``SyncBatchNorm`` does so on accelerators only, and putting it in the place of timm's norms drops the
    activation that is part of them; here it stays. Processes may have different numbers and sizes of pictures.

    Args:
        norm: The layer to take the place of. Parameters, running statistics and mode are its own, not copies, and so
            are the names in the state dict.
    """

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias = norm.weight, norm.bias
        self._buffers.update(norm._buffers)
        parts = [getattr(norm, name, None) for name in ("drop", "act")]  # timm's, none of which has parameters
        self.after = nn.Sequential(*(part for part in parts if part is not None))
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, C, H, W]`` as the replaced layer gives it, for the pictures of all processes together."""
        if not self.training or get_world_size() == 1:
            return self.after(super().forward(x))
        axes = (0, 2, 3)
        count = torch.full((1,), x.numel() / x.shape[1], dtype=x.dtype, device=x.device)
        sums = cast(Tensor, all_reduce(torch.cat([x.sum(axes), count])))
        total = sums[-1].detach()
        mean = (sums[:-1] / total).view(1, -1, 1, 1)
        # In two steps: the difference of two large sums would lose the digits that a gradient needs.
        variance = cast(Tensor, all_reduce((x - mean).square().sum(axes))) / total
        self._follow(mean.detach().flatten(), variance.detach() * (total / (total - 1).clamp(min=1)))
        normalised = (x - mean) * (variance + self.eps).rsqrt().view(1, -1, 1, 1)
        if self.affine:
            normalised = normalised * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return self.after(normalised)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics with those of a batch, ``[C]`` each."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        rate = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)


def share_batch_norm(model: nn.Module) -> int:
    """Put :class:`SharedBatchNorm2d` in the place of every ``BatchNorm2d`` below ``model``.

    Returns:
        How many were replaced.
    """
    found: list[tuple[nn.Module, str, Any]] = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.BatchNorm2d) and not isinstance(child, SharedBatchNorm2d)
    ]
    for parent, name, norm in found:
        setattr(parent, name, SharedBatchNorm2d(norm))
    return len(found)

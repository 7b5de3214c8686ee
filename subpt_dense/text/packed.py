"""Frozen matrices laid out beforehand, for products with few rows (R rows; a layer maps K to J).

A matrix product first copies its matrices into the blocks that the processor's kernels read. Among thousands of rows
that is nothing; with the two hundred of a small vocabulary it is an eighth of a training step, and the same every time:
the weights are frozen. MKL can do it once for one R, at the price of a second and a third copy of the weights (one for
each direction). Torch's own compiler uses the same two operators when it freezes a model.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from subpt_dense.text.tower import TextTower

#: Beyond so many rows less than a twentieth of a product is won.
MOST_ROWS = 1024
#: More than this is not spent on copies: ViT-L/14's text tower takes 650 MiB.
MOST_BYTES = 2**30

SLOPE = 1.702  # QuickGELU(x) = x * sigmoid(1.702 x) = silu(1.702 x) / 1.702


class PackedLinear:
    """``scale x W' + bias_scale b`` of a frozen layer for R rows; differentiable once, and in ``x`` alone.

    Args:
        weight: W, ``[J, K]`` float32 on the CPU.
        bias: b, ``[J]``.
        rows: R.
        scale: A factor of the weight.
        bias_scale: And of the bias.
    """

    def __init__(self, weight: Tensor, bias: Tensor, rows: int, scale: float = 1.0, bias_scale: float = 1.0) -> None:
        scaled = (weight * scale).contiguous()
        self.rows = rows
        self.weight = weight  # its shape alone is read
        self.bias = bias * bias_scale
        self.forth = torch.ops.mkl._mkl_reorder_linear_weight(scaled, rows)
        self.back = torch.ops.mkl._mkl_reorder_linear_weight(scaled.t().contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """``[R, K]`` to ``[R, J]``."""
        return _Product.apply(x, self)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: PackedLinear) -> Tensor:
        ctx.layer = layer
        return torch.ops.mkl._mkl_linear(x, layer.forth, layer.weight, layer.bias, layer.rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        layer: PackedLinear = ctx.layer
        return torch.ops.mkl._mkl_linear(grad, layer.back, layer.weight.t(), None, layer.rows), None


class PackedBlock(NamedTuple):
    """The linear layers of one block: queries, keys and values; after attention; the MLP's two, and what is between.

    QuickGELU is a silu here, its slope in the matrices on both sides.
    """

    qkv: PackedLinear
    out: PackedLinear
    c_fc: PackedLinear
    activate: Callable[[Tensor], Tensor]
    c_proj: PackedLinear

    def mlp(self, normed: Tensor) -> Tensor:
        """``[R, W]`` to ``[R, W]``."""
        return self.c_proj(self.activate(self.c_fc(normed)))


def pays(tower: TextTower, rows: int) -> bool:
    """Whether packed layers can serve the tower, and win time."""
    return (
        rows <= MOST_ROWS
        and tower.device.type == "cpu"
        and tower.dtype == torch.float32
        and torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()  # its tensors carry MKL's layout
        and 2 * sum(weight.nbytes for weight in tower.transformer.parameters()) <= MOST_BYTES
    )


@torch.inference_mode(False)
@torch.no_grad()
def pack_block(block: ResidualAttentionBlock, rows: int) -> PackedBlock:
    """Pack one block's layers for so many rows; where :func:`pays` says so."""
    attn, mlp = block.attn, block.mlp
    quick = isinstance(mlp.gelu, QuickGELU)
    slope = SLOPE if quick else 1.0
    return PackedBlock(
        PackedLinear(attn.in_proj_weight, attn.in_proj_bias, rows),
        PackedLinear(attn.out_proj.weight, attn.out_proj.bias, rows),
        PackedLinear(mlp.c_fc.weight, mlp.c_fc.bias, rows, slope, slope),
        silu if quick else mlp.gelu,
        PackedLinear(mlp.c_proj.weight, mlp.c_proj.bias, rows, 1 / slope),
    )

"""A linear subspace and what the family of methods does with it (R rank, P numbers in a flattened context)."""

from collections.abc import Mapping

import torch
from torch import Tensor

_ORTHONORMAL_TOLERANCE = 1e-8


class Subspace:
    """The span of R orthonormal rows in P dimensions.

    One object serves the family: :meth:`keep` (SubPT, P-SGD), :meth:`remove` (OGD, GPM), :meth:`remove_conflict`
    (ProGrad, A-GEM). All arithmetic is float64 on the basis's device; results come back in the vector's dtype, on its
    device.

    Args:
        basis: ``[R, P]`` with orthonormal rows, 1 <= R <= P; kept as float64.
        explained: ``[R]`` share of the variance along each row, each in [0, 1]; kept as float64.

    Raises:
        ValueError: If a shape is off, a value is not finite or the rows are not orthonormal to 1e-8.
    """

    def __init__(self, basis: Tensor, explained: Tensor) -> None:
        if basis.ndim != 2 or not 1 <= basis.shape[0] <= basis.shape[1]:
            raise ValueError(f"`basis` must have shape [R, P] with 1 <= R <= P. Got {list(basis.shape)}.")
        if explained.shape != basis.shape[:1]:
            raise ValueError(
                f"`explained` must have shape [{basis.shape[0]}], one a row of `basis`. Got {list(explained.shape)}."
            )
        self.basis = basis.detach().to(torch.float64)
        self.explained = explained.detach().to(torch.float64)
        identity = torch.eye(self.rank, dtype=torch.float64, device=basis.device)
        error = (self.basis @ self.basis.T - identity).abs().max().item()
        if not error <= _ORTHONORMAL_TOLERANCE:  # a NaN fails too
            raise ValueError(
                f"Rows of `basis` must be orthonormal to {_ORTHONORMAL_TOLERANCE:g}. Got max |U U^T - I| = {error:.2g}."
            )
        if not bool(((self.explained >= -1e-9) & (self.explained <= 1 + 1e-9)).all()):
            raise ValueError(f"`explained` must be in [0, 1]. Got {self.explained.tolist()}.")

    @property
    def rank(self) -> int:
        """R, the number of rows."""
        return self.basis.shape[0]

    @property
    def length(self) -> int:
        """P, the length of the vectors it takes."""
        return self.basis.shape[1]

    def keep(self, vector: Tensor) -> Tensor:
        """The orthogonal projection onto the subspace, ``U^T (U v)``: ``[P] -> [P]``, any floating dtype."""
        return self._project(self._checked(vector, "vector")).to(vector)

    def remove(self, vector: Tensor) -> Tensor:
        """What :meth:`keep` drops, ``v - U^T (U v)``: ``[P] -> [P]``, any floating dtype."""
        exact = self._checked(vector, "vector")
        return (exact - self._project(exact)).to(vector)

    def remove_conflict(self, vector: Tensor, reference: Tensor) -> Tensor:
        """:meth:`remove` where the vector opposes a reference, unchanged elsewhere: ``[P], [P] -> [P]``.

        They conflict when the inner product of their parts *in the subspace* is negative. With the reference direction
        as a subspace of rank 1 this is A-GEM's rule, and ProGrad's with lambda = 1.
        """
        exact = self._checked(vector, "vector")
        conflict = (self.basis @ exact) @ (self.basis @ self._checked(reference, "reference")) < 0
        return torch.where(conflict, exact - self._project(exact), exact).to(vector)

    def to(self, device: torch.device | str) -> "Subspace":
        """The same subspace with its tensors on ``device`` (which must know float64)."""
        return Subspace(self.basis.to(device), self.explained.to(device))

    def state_dict(self) -> dict[str, Tensor]:
        """``basis`` [R, P] and ``explained`` [R], float64 on the CPU."""
        return {"basis": self.basis.cpu(), "explained": self.explained.cpu()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Subspace":
        """Inverse of :meth:`state_dict`; validates like the constructor.

        Raises:
            ValueError: If a key is missing or the tensors do not make a subspace.
        """
        missing = sorted({"basis", "explained"} - set(state))
        if missing:
            raise ValueError(f"A subspace's state must hold `basis` and `explained`. Missing: {', '.join(missing)}.")
        return cls(state["basis"], state["explained"])

    def __repr__(self) -> str:
        return f"Subspace(rank={self.rank}, length={self.length}, explained={self.explained.sum().item():.4f})"

    def _project(self, exact: Tensor) -> Tensor:
        return self.basis.T @ (self.basis @ exact)

    def _checked(self, vector: Tensor, name: str) -> Tensor:
        if tuple(vector.shape) != (self.length,):
            raise ValueError(f"`{name}` must have shape [{self.length}], like the basis. Got {list(vector.shape)}.")
        if not vector.is_floating_point():
            raise ValueError(f"`{name}` must have a floating dtype. Got {vector.dtype}.")
        return vector.detach().to(self.basis)

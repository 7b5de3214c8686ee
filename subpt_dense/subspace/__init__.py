"""Linear algebra of the method: snapshots -> basis -> projection. Imports torch and nothing else."""

from subpt_dense.subspace.angles import largest_principal_angle, principal_angles
from subpt_dense.subspace.basis import Subspace
from subpt_dense.subspace.pca import fit_basis
from subpt_dense.subspace.spectrum import spectrum
from subpt_dense.subspace.vector import flatten, write_flat

__all__ = [
    "Subspace",
    "fit_basis",
    "flatten",
    "largest_principal_angle",
    "principal_angles",
    "spectrum",
    "write_flat",
]

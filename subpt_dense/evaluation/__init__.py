"""Scores by group (base, novel, all) and the table every result is written as."""

from subpt_dense.evaluation.scores import ResultTable, harmonic
from subpt_dense.evaluation.trajectory import Trajectory

__all__ = ["ResultTable", "Trajectory", "harmonic"]

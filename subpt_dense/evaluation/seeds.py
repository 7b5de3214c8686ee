"""Several seeds as one number: mean, deviation, and paired differences (n seeds)."""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """Scores of several seeds.

    Attributes:
        mean: Their mean.
        std: Sample standard deviation over the seeds (n - 1 in the denominator); None for one seed.
        seeds: n.
    """

    mean: float
    std: float | None
    seeds: int

    def __str__(self) -> str:
        """``65.2 ± 1.3``."""
        return f"{self.mean:.1f}" if self.std is None else f"{self.mean:.1f} ± {self.std:.1f}"


class Paired(NamedTuple):
    """``first - second``, seed by seed.

    Attributes:
        difference: The mean difference.
        error: Its standard error, ``std / sqrt(n)``; None for one seed.
        wins: Seeds in which the first is strictly above.
        seeds: n.
    """

    difference: float
    error: float | None
    wins: int
    seeds: int

    def __str__(self) -> str:
        """``+2.1 ± 0.4 (9 of 10)``."""
        error = "" if self.error is None else f" ± {self.error:.1f}"
        return f"{self.difference:+.1f}{error} ({self.wins} of {self.seeds})"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation.

    Raises:
        ValueError: If there is no value, or one is not finite.
    """
    _check(values, "values")
    return Spread(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def paired(first: Sequence[float], second: Sequence[float]) -> Paired:
    """What changing the method alone does: both ran with the same seeds, in the same order.

    Raises:
        ValueError: If there is no value, one is not finite, or the numbers of seeds differ.
    """
    _check(first, "first")
    _check(second, "second")
    if len(first) != len(second):
        raise ValueError(f"`first` and `second` must be scores of the same seeds. Got {len(first)} and {len(second)}.")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    mean, std, seeds = spread(differences)
    error = None if std is None else std / math.sqrt(seeds)
    return Paired(mean, error, sum(difference > 0 for difference in differences), seeds)


def _check(values: Sequence[float], name: str) -> None:
    if not len(values) or not all(math.isfinite(value) for value in values):
        raise ValueError(f"`{name}` must be at least one finite score. Got {list(values)}.")

"""Statistics over seeds against numpy, and what is refused."""

import math

import numpy as np
import pytest

from subpt_dense.evaluation.seeds import paired, spread


@pytest.mark.parametrize("count", [2, 3, 10])
def test_against_numpy(count):
    first, second = np.random.default_rng(count).normal(60, 5, (2, count))
    mean, std, seeds = spread(first.tolist())
    np.testing.assert_allclose([mean, std, seeds], [first.mean(), first.std(ddof=1), count])
    found = paired(first.tolist(), second.tolist())
    change = first - second
    expected = [change.mean(), change.std(ddof=1) / np.sqrt(count), (change > 0).sum(), count]
    np.testing.assert_allclose(found, expected)


def test_the_common_part_of_the_seeds_goes():
    found = paired([50.0, 70.0, 90.0], [49.0, 69.0, 89.0])
    assert found == (1.0, 0.0, 3, 3) and str(found) == "+1.0 ± 0.0 (3 of 3)"


def test_a_tie_is_no_win():
    assert paired([1.0, 2.0], [1.0, 1.0]).wins == 1


def test_one_seed_has_no_deviation():
    assert spread([3.0]) == (3.0, None, 1) and str(spread([3.0])) == "3.0"
    assert paired([3.0], [4.0]) == (-1.0, None, 0, 1) and str(paired([3.0], [4.0])) == "-1.0 (0 of 1)"
    assert str(spread([64.0, 66.0])) == "65.0 ± 1.4"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spread([]), r"`values` must be at least one finite score\. Got \[\]\."),
        (lambda: spread([1.0, math.nan]), r"`values` must be at least one finite score\. Got \[1\.0, nan\]\."),
        (lambda: paired([1.0], [math.inf]), r"`second` must be at least one finite score"),
        (lambda: paired([1.0, 2.0], [1.0]), r"must be scores of the same seeds\. Got 2 and 1\."),
    ],
)
def test_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()

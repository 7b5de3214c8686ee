"""The hypotheses on summaries made by hand: each holds, fails, or cannot be decided, for the right reason."""

from typing import Any

import pytest

from subpt_dense.evaluation.seeds import Paired
from subpt_dense.toyworld.hypotheses import above, check_hypotheses

SEEDS = list(range(1, 11))
EPOCHS = list(range(1, 7))


def head(base: list[float], novel: list[float], *, h: float = 70.0, seeds: list[int] = SEEDS) -> dict[str, Any]:
    """Every seed has the curve, shifted by its number; seeds differ in the novel end by a little noise as well."""
    shifts = {seed: 0.1 * (seed % 3) for seed in seeds}
    curves = {
        "epoch": EPOCHS,
        "base": [[value + seed for value in base] for seed in seeds],
        "novel": [[*(value + seed for value in novel[:-1]), novel[-1] + seed + shifts[seed]] for seed in seeds],
    }
    ends = {group: [row[-1] for row in curves[group]] for group in ("base", "novel")}
    return {**ends, "h": [h + seed + shifts[seed] for seed in seeds], "curves": curves, "seeds": seeds}


RISES, FALLS = [60.0, 61, 62, 63, 64, 65], [60.0, 61, 64, 63, 62, 60]


def summary(**heads: Any) -> dict[str, Any]:
    expected = {
        "coop": head(FALLS, FALLS),
        "nfl": head(FALLS, RISES),
        "subpt": head(RISES, RISES),
        "subpt_nfl": head(RISES, RISES, h=72.0),
    }
    return {"heads": {name: found for name, found in (expected | heads).items() if found is not None}}


def verdicts(**heads: Any) -> list[bool | None]:
    return [outcome.holds for outcome in check_hypotheses(summary(**heads))]


def test_all_hold() -> None:
    outcomes = check_hypotheses(summary())
    assert [outcome.name for outcome in outcomes] == ["H1", "H2", "H3", "H4"]
    assert [outcome.holds for outcome in outcomes] == [True] * 4
    assert outcomes[0].figures == "novel at epoch 3 minus novel at the end: +3.9 ± 0.0 (10 of 10)"
    assert outcomes[2].figures == "H, SubPT+NFL minus CoOp: +2.0 ± 0.0 (10 of 10)"
    assert outcomes[3].figures.startswith("base, peak minus end: SubPT 0.0, CoOp 4.0; CoOp's fall minus SubPT's: +4.0")


@pytest.mark.parametrize(
    ("heads", "fails"),
    [
        ({"coop": head(FALLS, RISES), "nfl": head(FALLS, [70.0] * 6)}, 0),  # CoOp's novel accuracy rises to the end
        ({"nfl": head(FALLS, [60.0, 60, 60, 60, 60, 59])}, 1),
        ({"subpt_nfl": head(RISES, RISES, h=71.4)}, 2),  # above in every seed, but by 1.4 only
        ({"subpt": head(FALLS, RISES)}, 3),  # falls as CoOp does
        ({"coop": head(RISES, FALLS)}, 3),  # nothing to keep: CoOp does not fall either
    ],
)
def test_one_does_not_hold(heads: dict[str, Any], fails: int) -> None:
    assert verdicts(**heads) == [position != fails for position in range(4)]


def test_h3_counts_seeds() -> None:
    """A mean of 2 or more that comes from seven seeds of ten is not enough; eight are."""
    coop = head(FALLS, FALLS)
    for wins, holds in ((7, False), (8, True)):
        better = head(RISES, RISES)
        better["h"] = [value + (4.0 if i < wins else -0.5) for i, value in enumerate(coop["h"])]
        assert verdicts(subpt_nfl=better)[2] is holds


def test_only_common_seeds_are_compared() -> None:
    """A seed that one head lost is dropped from the other too: else its own difficulty would count."""
    short = head(FALLS, FALLS, seeds=SEEDS[:4])
    assert verdicts(coop=short) == [True] * 4
    far = head(RISES, RISES, h=72.0, seeds=SEEDS[2:])
    assert "(2 of 2)" in check_hypotheses(summary(coop=short, subpt_nfl=far))[2].figures


def test_what_is_missing_is_not_decided() -> None:
    assert verdicts(nfl=None, subpt=None) == [True, None, True, None]
    assert verdicts(coop=None) == [None] * 4
    apart = head(RISES, RISES, seeds=[20, 21])
    assert verdicts(subpt_nfl=apart)[2] is None
    assert verdicts(coop=head(FALLS, FALLS, seeds=[1]))[0] is False  # one seed decides nothing
    early = head(FALLS, FALLS)
    early["curves"]["epoch"] = [10, 20, 30, 40, 50, 60]
    assert verdicts(coop=early)[0] is None


def test_above_is_two_standard_errors() -> None:
    assert above(Paired(2.1, 1.0, 8, 10)) and not above(Paired(1.9, 1.0, 10, 10))
    assert not above(Paired(-3.0, 1.0, 0, 10)) and not above(Paired(5.0, None, 1, 1))

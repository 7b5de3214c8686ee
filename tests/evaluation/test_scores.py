import json
from pathlib import Path

import pytest

from subpt_dense.evaluation import ResultTable, harmonic


@pytest.mark.parametrize(("base", "novel", "expected"), [(80, 60, 68.5714286), (0, 0, 0), (0, 50, 0), (0.3, 0.3, 0.3)])
def test_harmonic(base: float, novel: float, expected: float) -> None:
    assert harmonic(base, novel) == pytest.approx(expected)
    assert harmonic(novel, base) == pytest.approx(expected)


@pytest.mark.parametrize(("base", "novel"), [(-1, 50), (50, -1), (float("nan"), 1)])
def test_harmonic_refuses_what_is_no_score(base: float, novel: float) -> None:
    with pytest.raises(ValueError, match="`base` and `novel` of harmonic must be scores of 0 or more. Got "):
        harmonic(base, novel)


def table(**changes) -> ResultTable:
    facts = {
        "protocol": "coco-ovd-48/17 generalised",
        "label_space": "65 names (48 base + 17 novel)",
        "annotation_file": "data/coco/annotations/instances_val2017_all_2.json",
        "annotation_sha256": "0123456789abcdef" * 4,
        "images": 4836,
        "groups": {
            "base": {"ap50": 51.24, "ap": 30.0, "classes": 48},
            "novel": {"ap50": None, "ap": 7.96, "classes": 17},
            "all": {"ap50": 100.0, "ap": 0.0, "classes": 65},
        },
        "details": {"ap_of": "bbox", "per_class": {"cat": {"ap50": 1.0}}},
    }
    return ResultTable(**(facts | changes))


def test_text_has_every_fact_and_aligned_scores() -> None:
    assert table().to_text().splitlines() == [
        "protocol     coco-ovd-48/17 generalised",
        "label space  65 names (48 base + 17 novel)",
        "annotations  data/coco/annotations/instances_val2017_all_2.json (sha256 0123456789ab)",
        "images       4836",
        "ap of        bbox",
        "group  classes   AP50    AP",
        "base        48   51.2  30.0",
        "novel       17      -   8.0",
        "all         65  100.0   0.0",
    ]


def test_text_shows_what_any_group_has() -> None:
    text = table(groups={"seen": {"miou": 40.0}, "unseen": {"miou": 20.0, "pacc": 70.0}}, details={}).to_text()
    assert text.splitlines()[-3:] == [
        "group   classes  MIOU  PACC",
        "seen          -  40.0     -",
        "unseen        -  20.0  70.0",
    ]


def test_json_is_the_whole_table(tmp_path: Path) -> None:
    table().to_json(tmp_path / "out" / "result.json")
    content = json.loads((tmp_path / "out" / "result.json").read_text())
    assert content == table().to_dict()
    assert ResultTable(**content) == table()
    assert content["groups"]["novel"] == {"ap50": None, "ap": 7.96, "classes": 17}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"protocol": " "}, "`protocol` of ResultTable must not be blank"),
        ({"annotation_sha256": ""}, "`annotation_sha256` of ResultTable must not be blank"),
        (
            {"groups": {"base": {"ap": 100.5}}},
            r"`ap` of group 'base' in ResultTable must be None or in \[0, 100\]. Got 100.5",
        ),
        ({"groups": {"base": {"ap": float("nan")}}}, "Got nan"),
        ({"groups": {"novel": {"ap": -1}}}, "`ap` of group 'novel' .* Got -1"),
    ],
)
def test_a_table_without_its_facts_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        table(**changes)

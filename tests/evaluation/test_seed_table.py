"""The table of seeds: its cells against numpy, and what is said below it."""

import numpy as np

from subpt_dense.evaluation.seed_table import markdown_table, table_rows


def summary():
    coop = {"base": [60.0, 62.0], "novel": [70.0, 70.0], "h": [64.6, 65.8]}
    best = {"base": [61.0, 63.0], "novel": [71.0, 73.0], "h": [65.6, 67.6], "epoch": [3, 9]}
    heads = {"coop": {**coop, "best": best}, "nfl": {key: values[:1] for key, values in coop.items()} | {"best": None}}
    failures = [{"head": "nfl", "seed": 2, "error": "x"}]
    return {"heads": heads, "seeds": [1, 2], "commit": "abc", "failures": failures}


def test_rows():
    header, coop, nfl = table_rows(summary())
    assert header[:3] == ["head", "seeds", "base, last"] and len(header) == len(coop) == len(nfl) == 9
    std = np.std([61.0, 63.0], ddof=1)
    assert coop == [
        *("coop", "2", "61.0 ± 1.4", "70.0 ± 0.0", "65.2 ± 0.8"),
        *(f"62.0 ± {std:.1f}", "72.0 ± 1.4", "66.6 ± 1.4", "6.0 ± 4.2"),
    ]
    assert nfl == ["nfl", "1", "60.0", "70.0", "64.6", "-", "-", "-", "-"]


def test_markdown():
    lines = markdown_table(summary()).splitlines()
    assert len({len(line) for line in lines[:4]}) == 1 and set(lines[1]) <= set("|-: ")
    assert lines[-2:] == ["Seeds 1, 2; commit abc.", "Failed: nfl seed 2."]
    assert "Failed" not in markdown_table({**summary(), "failures": []})

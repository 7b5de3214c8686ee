"""Runs in a pool: a process that dies takes nothing along, what is finished is not done again, failures are told."""

import io
from typing import Any

import pytest
from rich.console import Console

from subpt_dense.apis import run_pool


def test_a_process_that_dies_takes_nothing_along(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []

    def in_pool(todo: Any, do: Any, jobs: int, commit: str) -> Any:
        pools.append(list(todo))
        for run in todo:  # the first pool breaks at 2; alone, 2 dies again and 3 lives
            dies = run == 2 or (run == 3 and len(todo) > 1)
            yield run, None if dies else {"seed": run}

    monkeypatch.setattr(run_pool, "_in_pool", in_pool)
    outcomes = dict(run_pool._outcomes([1, 2, 3], lambda run, commit: {}, lambda run: None, 2, "c"))
    assert pools == [[1, 2, 3], [2], [3]]
    assert outcomes[1] == {"seed": 1} and outcomes[3] == {"seed": 3} and "died without a word" in outcomes[2]


def test_what_is_finished_is_kept_and_a_failure_is_told() -> None:
    def do(run: int, commit: str) -> dict[str, Any]:
        if run == 3:
            raise ValueError("three")
        return {"run": run, "commit": commit}

    console = Console(file=io.StringIO(), width=100)
    outcomes = run_pool.do_all(
        [1, 2, 3],
        do,
        lambda run: {"old": run} if run == 1 else None,
        lambda run, result: f"{run}: {result}",
        jobs=1,
        commit="abc",
        console=console,
    )
    assert outcomes[:2] == [(1, {"old": 1}), (2, {"run": 2, "commit": "abc"})]
    assert outcomes[2][0] == 3 and str(outcomes[2][1]).startswith("ValueError: three (test_run_pool.py:")
    assert "2: {'run': 2, 'commit': 'abc'}" in console.file.getvalue()

"""The commit of the code: named, marked where files differ, unknown outside a checkout that tracks it."""

import re
import subprocess
from pathlib import Path

import pytest

from subpt_dense.evaluation.commit import code_commit


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "a.py").touch()
    return folder


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_named_and_marked(checkout: Path) -> None:
    assert code_commit(checkout) == "unknown"
    git(checkout.parent, "init")
    assert code_commit(checkout) == "unknown"  # nothing tracked, nothing committed
    git(checkout.parent, "add", ".")
    git(checkout.parent, "commit", "--message", "one")
    head = git(checkout, "rev-parse", "--short", "HEAD")
    git(checkout.parent, "tag", "v1")
    assert re.fullmatch("[0-9a-f]{4,}", head) and code_commit(checkout) == head
    (checkout / "a.py").write_text("x = 1\n")
    assert code_commit(checkout) == f"{head}+"


def test_somebody_elses_repository_is_not_named(checkout: Path) -> None:
    git(checkout.parent, "init")
    (checkout.parent / "b.py").touch()
    git(checkout.parent, "add", "b.py")
    git(checkout.parent, "commit", "--message", "one")
    assert code_commit(checkout.parent) != "unknown"
    assert code_commit(checkout) == "unknown"


def test_without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert code_commit(checkout) == "unknown"

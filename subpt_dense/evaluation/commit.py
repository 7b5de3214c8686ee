"""Which code made a result."""

import subprocess
from pathlib import Path

_FOLDER = Path(__file__).parent


def code_commit(folder: str | Path = _FOLDER) -> str:
    """Short id of the checked-out commit of a folder's code, with ``+`` where tracked files differ from it.

    Args:
        folder: Any folder of the code; by default this package's.

    Returns:
        ``"unknown"`` where the folder is in no git checkout, or in one that does not track it (an installed package
        inside somebody's repository), or git is not to be had.
    """
    try:
        if not _git(folder, "ls-files", "."):
            return "unknown"
        return _git(folder, "describe", "--always", "--dirty=+", "--exclude=*") or "unknown"
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: str | Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

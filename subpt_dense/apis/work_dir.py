"""A work dir belongs to one run: another config's is refused, nothing is resumed silently."""

import hashlib
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from subpt_dense.datasets import write_json

_RECORD = "run.json"
#: What may differ between two starts of the same run.
_INCIDENTAL = ("work_dir", "resume", "load_from", "launcher", "log_level")


def claim_work_dir(cfg: Config) -> None:
    """Record in ``cfg.work_dir`` whose run it holds, or refuse it.

    A folder without checkpoints is free: a start that failed must not lock it. One with checkpoints may be used by the
    same config again (started anew, as the hosts do), and by another one only with ``resume``; the parts of the config
    that then differ are logged.

    Raises:
        FileExistsError: If the folder holds another config's run, or checkpoints of an unknown one, without ``resume``.
    """
    folder = Path(cfg.work_dir)
    record, mine = folder / _RECORD, fingerprints(cfg)
    trained = any(folder.glob("*.pth"))
    theirs: dict[str, Any] | None = json.loads(record.read_text()) if trained and record.exists() else None
    if trained and theirs is None and not cfg.get("resume"):
        raise FileExistsError(
            f"`--work-dir` must be new, or hold this config's run. {folder} holds checkpoints of an unknown run. "
            "Choose another folder."
        )
    if theirs is not None:
        differing = sorted(k for k in {**theirs["parts"], **mine} if theirs["parts"].get(k) != mine.get(k))
        if differing and not cfg.get("resume"):
            raise FileExistsError(
                f"`--work-dir` must be new, or hold this config's run. {folder} holds a run of {theirs['config']} "
                f"that differs in {', '.join(differing)}. Choose another folder, or go on with it by `--resume`."
            )
        if differing:
            print_log(f"resuming a run whose config differed in: {', '.join(differing)}", "current", level=30)
    write_json(record, {"config": Path(cfg.filename or "a config in memory").name, "parts": mine}, indent=1)


def fingerprints(cfg: Config) -> dict[str, str]:
    """A short hash of every top-level part of the config."""
    parts = {key: value for key, value in cfg.to_dict().items() if key not in _INCIDENTAL}
    return {key: hashlib.sha256(repr(value).encode()).hexdigest()[:16] for key, value in sorted(parts.items())}

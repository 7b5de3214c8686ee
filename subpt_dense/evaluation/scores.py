"""Scores by group, and the table that says what a number means."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from subpt_dense.datasets import write_json


def harmonic(base: float, novel: float) -> float:
    """Harmonic mean ``2bn / (b + n)`` of two scores of one scale; 0 where both are 0.

    Raises:
        ValueError: If a score is negative or NaN.
    """
    if not (base >= 0 and novel >= 0):
        raise ValueError(f"`base` and `novel` of harmonic must be scores of 0 or more. Got {base} and {novel}.")
    return 2 * base * novel / (base + novel) if base + novel else 0.0


@dataclass
class ResultTable:
    """Scores of one evaluation, with everything that is needed to compare them with others.

    Args:
        protocol: The protocol's name, such as ``"coco-ovd-48/17 generalised"``.
        label_space: What the classifier chose among, in words.
        annotation_file: The ground truth, as given in the config.
        annotation_sha256: SHA-256 of that file.
        images: How many images were evaluated.
        groups: For each group (``"base"``, ``"novel"``, ``"all"``) its scores in 0..100, ``None`` where the group has
            no ground truth, and the number of its ``"classes"``: ``{"base": {"ap50": 31.2, "ap": 17.0, "classes": 48},
            ...}``.
        details: Further plain facts (images in the file, kind of AP, detection limit, scores by class).

    Raises:
        ValueError: If a fact is blank, or a score lies outside 0..100.
    """

    protocol: str
    label_space: str
    annotation_file: str
    annotation_sha256: str
    images: int
    groups: dict[str, dict[str, Any]]
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check what would make the table unreadable later."""
        for name in ("protocol", "label_space", "annotation_file", "annotation_sha256"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"`{name}` of ResultTable must not be blank: a number without it cannot be compared.")
        for group, scores in self.groups.items():
            for key, value in scores.items():
                if key != "classes" and value is not None and not 0 <= value <= 100:
                    raise ValueError(
                        f"`{key}` of group {group!r} in ResultTable must be None or in [0, 100]. Got {value}."
                    )

    def to_dict(self) -> dict[str, Any]:
        """The table as plain dicts, strings and numbers."""
        return asdict(self)

    def to_json(self, path: "str | Path") -> None:
        """Write the table to ``path`` (folders made if missing), atomically."""
        write_json(path, self.to_dict(), indent=2)

    def to_text(self) -> str:
        """The table for people: facts, then one row a group, scores with one decimal."""
        facts = {
            "protocol": self.protocol,
            "label space": self.label_space,
            "annotations": f"{self.annotation_file} (sha256 {self.annotation_sha256[:12]})",
            "images": str(self.images),
        }
        facts |= {
            key.replace("_", " "): str(value) for key, value in self.details.items() if not isinstance(value, dict)
        }
        width = max(map(len, facts))
        lines = [f"{key:<{width}}  {value}" for key, value in facts.items()]
        columns = [key for scores in self.groups.values() for key in scores if key != "classes"]
        columns = ["classes", *dict.fromkeys(columns)]
        rows = [["group", *(column.upper() if column != "classes" else column for column in columns)]]
        rows += [[group, *(_cell(scores.get(column)) for column in columns)] for group, scores in self.groups.items()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells))
        return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)

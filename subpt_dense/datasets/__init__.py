"""Data without a host: class splits, generic vocabularies, split files, and the check that the files are there."""

from subpt_dense.datasets.coco_ovd import write_coco_ovd
from subpt_dense.datasets.files import file_sha256, require_files, write_json
from subpt_dense.datasets.names import resolve_names
from subpt_dense.datasets.splits import ClassSplit, get_split

__all__ = [
    "ClassSplit",
    "file_sha256",
    "get_split",
    "require_files",
    "resolve_names",
    "write_coco_ovd",
    "write_json",
]

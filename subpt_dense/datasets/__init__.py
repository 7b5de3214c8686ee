"""Data without a host: class splits, image lists, few-shot draws, vocabularies, the check that files are there."""

from subpt_dense.datasets.base_to_novel import base_to_novel, class_split_of
from subpt_dense.datasets.coco_ovd import write_coco_ovd
from subpt_dense.datasets.coco_stuff_zss import write_coco_stuff_zss
from subpt_dense.datasets.context_zss import write_context_zss
from subpt_dense.datasets.few_shot import FewShotDraw, draw_few_shot, load_or_draw
from subpt_dense.datasets.files import file_sha256, require_files, write_json
from subpt_dense.datasets.image_list import ImageList, list_sha256, read_images, read_names
from subpt_dense.datasets.image_sets import IMAGE_SETS, get_image_set
from subpt_dense.datasets.lvis_ovd import write_lvis_ovd
from subpt_dense.datasets.names import resolve_names
from subpt_dense.datasets.proposals import Proposals, read_ground_truth, read_proposals
from subpt_dense.datasets.region_cache import RegionCache
from subpt_dense.datasets.region_writer import RegionWriter, write_regions
from subpt_dense.datasets.splits import ClassSplit, get_split
from subpt_dense.datasets.voc07 import write_voc07
from subpt_dense.datasets.voc_zss import write_voc_zss

__all__ = [
    "IMAGE_SETS",
    "ClassSplit",
    "FewShotDraw",
    "ImageList",
    "Proposals",
    "RegionCache",
    "RegionWriter",
    "base_to_novel",
    "class_split_of",
    "draw_few_shot",
    "file_sha256",
    "get_image_set",
    "get_split",
    "list_sha256",
    "load_or_draw",
    "read_ground_truth",
    "read_images",
    "read_names",
    "read_proposals",
    "require_files",
    "resolve_names",
    "write_coco_ovd",
    "write_coco_stuff_zss",
    "write_context_zss",
    "write_json",
    "write_lvis_ovd",
    "write_regions",
    "write_voc07",
    "write_voc_zss",
]

"""COCO-format detection data with base and novel classes, labelled by name."""

import contextlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from subpt_dense.datasets import ClassSplit, get_split
from subpt_dense.registry import DATASETS


class NamedCOCO(COCO):
    """COCO's API with category ids in the order of the names asked for, whatever the order in the file. Prints nothing.

    Raises:
        ValueError: If the file is not COCO's JSON with images, annotations and categories.
    """

    def __init__(self, annotation_file: str | None = None) -> None:
        self.annotation_file = annotation_file
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                super().__init__(annotation_file)
            except (AssertionError, ValueError) as error:
                raise ValueError(f"Annotation file {annotation_file} must be a JSON object. Got: {error}.") from error
        absent = [key for key in ("images", "annotations", "categories") if key not in self.dataset]
        if absent and annotation_file is not None:
            raise ValueError(
                f"Annotation file {annotation_file} must hold `images`, `annotations` and `categories`. "
                f"Got no {', '.join(absent)}."
            )

    def get_cat_ids(self, cat_names: Any = (), sup_names: Any = (), cat_ids: Any = ()) -> list[int]:
        """Category ids; with ``cat_names`` alone, one id a name, in the order of the names.

        Raises:
            ValueError: If a name is not in the file, or the file has it (or its id) twice.
        """
        if not cat_names or isinstance(cat_names, str) or len(sup_names) or len(cat_ids):
            return super().get_cat_ids(cat_names, sup_names, cat_ids)
        return match_names(cat_names, self.dataset["categories"], where=str(self.annotation_file))


def match_names(names: Sequence[str], categories: Sequence[Mapping[str, Any]], where: str) -> list[int]:
    """The category id of each name, in the order of ``names``.

    Raises:
        ValueError: If a name has no category, both sides are named; or if ``where`` repeats a category name or id.
    """
    for key in ("name", "id"):
        counts = Counter(category[key] for category in categories)
        repeated = [str(value) for value, count in counts.items() if count > 1]
        if repeated:
            raise ValueError(
                f"The categories of {where} must be distinct. Got the {key} {', '.join(repeated)} more than once."
            )
    ids = {category["name"]: category["id"] for category in categories}
    missing = [name for name in names if name not in ids]
    if missing:
        spare = [name for name in ids if name not in set(names)]
        raise ValueError(
            f"The categories of {where} must hold each of the {len(names)} class names. Missing: {_some(missing)}. "
            f"It has {len(ids)} categories; those that no class asks for: {_some(spare)}. Is it the file of this split "
            "and group?"
        )
    return [ids[name] for name in names]


def _some(names: Sequence[str], limit: int = 20) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more if names else "none"


@DATASETS.register_module()
class OVCocoDataset(CocoDataset):
    """A COCO-format data set whose labels are positions in a split's names.

    ``metainfo`` holds ``classes`` (the group's names: label ``i`` is ``classes[i]``), ``base_classes``,
    ``novel_classes``, ``split`` and ``group``. mmdet numbers labels by the order of the categories *in the file*; here
    the names decide, so that a file with its categories or ids in another order gives the same labels. Categories of
    the file outside the group are dropped.

    Args:
        split: What :func:`subpt_dense.datasets.get_split` takes: ``"coco_ovd"`` or the path to a .json file.
        group: ``"base"``, ``"novel"`` or ``"all"``; by default ``"base"`` in training and ``"all"`` with
            ``test_mode=True``.
        metainfo: Further entries for ``metainfo``, such as ``palette``.
        **kwargs: As for ``mmdet.CocoDataset``.

    Raises:
        ValueError: If the annotation file lacks a name, or repeats a category; if ``metainfo`` sets what the split
            decides, or ``data_prefix`` has no ``img``.
    """

    METAINFO: dict[str, Any] = {}
    COCOAPI = NamedCOCO
    labels_by_name = True  # what VocabularyHook asks of a data set that numbers its labels

    def __init__(
        self,
        *,
        split: "str | Path | ClassSplit | Mapping[str, Any]",
        group: str | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        chosen = get_split(split)
        if group is None:
            group = "all" if kwargs.get("test_mode") else "base"
        entries = {
            "classes": chosen.group(group),
            "base_classes": chosen.base,
            "novel_classes": chosen.novel,
            "split": chosen.name,
            "group": group,
        }
        clash = sorted(set(metainfo or ()) & set(entries))
        if clash:
            raise ValueError(
                f"`metainfo` of OVCocoDataset must not set what `split` and `group` decide. Got {', '.join(clash)}."
            )
        prefix = kwargs.setdefault("data_prefix", {"img": ""})
        if "img" not in prefix:
            raise ValueError(f"`data_prefix` of OVCocoDataset must name the image folder as `img`. Got {dict(prefix)}.")
        super().__init__(metainfo={"palette": _palette(chosen.group(group)), **entries, **(metainfo or {})}, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The entries as given: mmengine takes a string for a path, and reads the file where one has that name."""
        return {**cls.METAINFO, **(metainfo or {})}

    def prepare_data(self, idx: int) -> Any:
        """A sample after the pipeline; ``None`` (another one is drawn) in training only.

        Raises:
            RuntimeError: If a test sample comes out of the pipeline as ``None``; names its file.
        """
        data = super().prepare_data(idx)
        if data is None and self.test_mode:
            path = self.get_data_info(idx)["img_path"]
            raise RuntimeError(
                f"No image may be skipped in testing, or the scores would be of another set. {path} came out of the "
                "pipeline as None: mend the file, and keep `on_error='raise'` of LoadImage in the test pipeline."
            )
        return data


def _palette(names: Sequence[str]) -> Any:
    """COCO's own colours where every name is COCO's, else mmdet draws some."""
    coco = dict(zip(CocoDataset.METAINFO["classes"], CocoDataset.METAINFO["palette"], strict=True))
    return [coco[name] for name in names] if all(name in coco for name in names) else "random"

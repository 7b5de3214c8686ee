"""LVIS v1 as a COCO-format data set with base and novel classes, without the `lvis` package."""

from typing import Any

from subpt_dense.detection.dataset import OVCocoDataset
from subpt_dense.registry import DATASETS

#: What LVIS says of an image beyond COCO: where it lies, and which categories were looked for, or not labelled fully.
IMAGE_KEYS = ("coco_url", "neg_category_ids", "not_exhaustive_category_ids")


@DATASETS.register_module()
class LVISDataset(OVCocoDataset):
    """LVIS's own annotation files, labels by name as in :class:`OVCocoDataset`.

    LVIS names images by ``coco_url`` and takes those of its validation set from both of COCO's folders: an image is
    looked for under ``train2017/`` or ``val2017/`` of the image folder, as its address says. Each item also holds
    ``neg_labels`` and ``not_exhaustive_labels``, the labels of the categories known to be absent and of those not
    labelled fully; the federated evaluation itself is :class:`subpt_dense.LVISMetric`'s.

    Args:
        split: ``"lvis_v1"``: 866 base and 337 novel names; or as for :class:`OVCocoDataset`.
        **kwargs: As for :class:`OVCocoDataset`.

    Raises:
        ValueError: If an image of the annotation file lacks what LVIS's have; as for :class:`OVCocoDataset`.
    """

    def __init__(self, *, split: Any = "lvis_v1", **kwargs: Any) -> None:
        super().__init__(split=split, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> Any:
        """The item of one image and its annotations."""
        image = raw_data_info["raw_img_info"]
        absent = [key for key in IMAGE_KEYS if key not in image]
        if absent:
            raise ValueError(
                f"Images of {self.ann_file} must be LVIS's, with {', '.join(IMAGE_KEYS)}. Image {image['img_id']} "
                f"has no {', '.join(absent)}. Use subpt_dense.OVCocoDataset for files in COCO's own format."
            )
        image = image | {"file_name": "/".join(image["coco_url"].split("/")[-2:])}
        info = super().parse_data_info(raw_data_info | {"raw_img_info": image})
        for key, ids in (("neg_labels", IMAGE_KEYS[1]), ("not_exhaustive_labels", IMAGE_KEYS[2])):
            info[key] = [self.cat2label[i] for i in image[ids] if i in self.cat2label]
        return info

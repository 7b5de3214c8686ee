"""Image classification on mmengine: the simplest host."""

from subpt_dense.classification.classifier import PromptedClassifier
from subpt_dense.classification.dataset import ImageSet
from subpt_dense.classification.features import CachedFeatures
from subpt_dense.classification.image_tower import ImageTower, get_image_tower
from subpt_dense.classification.metric import GroupAccuracy
from subpt_dense.classification.region_set import RegionSet
from subpt_dense.classification.transforms import CLIPAugment, CLIPCrop, LoadImageRGB, PackImage

__all__ = [
    "CLIPAugment",
    "CLIPCrop",
    "CachedFeatures",
    "GroupAccuracy",
    "ImageSet",
    "ImageTower",
    "LoadImageRGB",
    "PackImage",
    "PromptedClassifier",
    "RegionSet",
    "get_image_tower",
]

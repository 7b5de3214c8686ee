"""Open-vocabulary detection on mmdet."""

from subpt_dense.detection.clip_backbone import FrozenCLIPBackbone
from subpt_dense.detection.dataset import NamedCOCO, OVCocoDataset
from subpt_dense.detection.detector import OVTwoStageDetector
from subpt_dense.detection.fvlm_detector import FVLMDetector
from subpt_dense.detection.fvlm_roi_head import FVLMRoIHead
from subpt_dense.detection.image_branch import ImageBranch
from subpt_dense.detection.load_regions import PackRegionInputs
from subpt_dense.detection.loading import LoadImage
from subpt_dense.detection.lvis_dataset import LVISDataset
from subpt_dense.detection.lvis_metric import LVISMetric
from subpt_dense.detection.metric import OVDMetric
from subpt_dense.detection.trunk import CLIPTrunk
from subpt_dense.detection.vild_roi_head import ViLDRoIHead
from subpt_dense.detection.visualizer import GroupVisualizer

__all__ = [
    "CLIPTrunk",
    "FVLMDetector",
    "FVLMRoIHead",
    "FrozenCLIPBackbone",
    "GroupVisualizer",
    "ImageBranch",
    "LVISDataset",
    "LVISMetric",
    "LoadImage",
    "NamedCOCO",
    "OVCocoDataset",
    "OVDMetric",
    "OVTwoStageDetector",
    "PackRegionInputs",
    "ViLDRoIHead",
]

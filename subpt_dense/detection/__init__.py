"""Open-vocabulary detection on mmdet."""

from subpt_dense.detection.dataset import NamedCOCO, OVCocoDataset
from subpt_dense.detection.detector import OVTwoStageDetector
from subpt_dense.detection.loading import LoadImage
from subpt_dense.detection.metric import OVDMetric
from subpt_dense.detection.trunk import CLIPTrunk
from subpt_dense.detection.visualizer import GroupVisualizer

__all__ = ["CLIPTrunk", "GroupVisualizer", "LoadImage", "NamedCOCO", "OVCocoDataset", "OVDMetric", "OVTwoStageDetector"]

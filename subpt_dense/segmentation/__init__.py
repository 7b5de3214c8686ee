"""Zero-shot and open-vocabulary segmentation on mmseg."""

from subpt_dense.segmentation.cached_maps import CachedMaps
from subpt_dense.segmentation.dataset import ZSSegDataset
from subpt_dense.segmentation.dense_backbone import DenseCLIPBackbone
from subpt_dense.segmentation.dense_head import DenseCLIPHead
from subpt_dense.segmentation.drawing import draw_class_map
from subpt_dense.segmentation.drawing_hook import ClassMapHook
from subpt_dense.segmentation.gamma_grid import GammaGridMetric
from subpt_dense.segmentation.labels import LoadLabels
from subpt_dense.segmentation.metric import ZeroShotIoUMetric
from subpt_dense.segmentation.multimodal import OVMultimodalSegmentor
from subpt_dense.segmentation.preprocessor import DensePreProcessor
from subpt_dense.segmentation.proposal_backbone import BackboneWithImages
from subpt_dense.segmentation.proposal_head import ProposalCLIPHead
from subpt_dense.segmentation.rows_text_encoder import RowsTextEncoder
from subpt_dense.segmentation.san_head import OVSideAdapterHead
from subpt_dense.segmentation.segmentor import OVSegmentor
from subpt_dense.segmentation.visualizer import ClassMapVisualizer

__all__ = [
    "BackboneWithImages",
    "CachedMaps",
    "ClassMapHook",
    "ClassMapVisualizer",
    "DenseCLIPBackbone",
    "DenseCLIPHead",
    "DensePreProcessor",
    "GammaGridMetric",
    "LoadLabels",
    "OVMultimodalSegmentor",
    "OVSegmentor",
    "OVSideAdapterHead",
    "ProposalCLIPHead",
    "RowsTextEncoder",
    "ZSSegDataset",
    "ZeroShotIoUMetric",
    "draw_class_map",
]

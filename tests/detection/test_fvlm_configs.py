"""The F-VLM configs against what open_clip says of the CLIPs they name."""

import open_clip
import pytest
from mmengine.config import Config
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

from tests.detection.fvlm_model import CONFIGS

DETECTORS = ["fvlm_r50", "fvlm_mask_r50", "fvlm_mask_r50x64", "fvlm_toy"]
HEADS = ["template", "coop", "subpt", "nfl", "subpt_nfl"]


@pytest.mark.parametrize("name", DETECTORS)
def test_one_clip_everywhere(name):
    model = Config.fromfile(CONFIGS / f"_base_/detectors/{name}.py").model
    text, trunk = model.language.text, model.backbone
    assert (text.model, text.pretrained) == (trunk.model, trunk.pretrained)
    facts = open_clip.get_model_config(text.model)
    classifier = model.roi_head.bbox_head.cls_predictor_cfg
    assert classifier.embed_dim == model.roi_head.fusion.embed_dim == facts["embed_dim"]


@pytest.mark.parametrize("name", DETECTORS[:3])
def test_the_neck_takes_what_the_trunk_gives(name):
    model = Config.fromfile(CONFIGS / f"_base_/detectors/{name}.py").model
    vision = open_clip.get_model_config(model.backbone.model)["vision_cfg"]
    assert model.neck.in_channels == [vision["width"] * 4 * 2**stage for stage in range(4)]
    assert "out_indices" not in model.backbone  # the last four stages
    preprocessor = model.data_preprocessor
    assert preprocessor.mean == pytest.approx([255 * value for value in OPENAI_DATASET_MEAN], abs=1e-5)
    assert preprocessor.std == pytest.approx([255 * value for value in OPENAI_DATASET_STD], abs=1e-5)
    assert preprocessor.bgr_to_rgb is True
    assert open_clip.get_pretrained_cfg(model.backbone.model, model.backbone.pretrained).get("quick_gelu")
    assert open_clip.get_model_config(model.backbone.model)["quick_gelu"]


@pytest.mark.parametrize("dataset", ["toy", "coco", "lvis"])
def test_heads_differ_in_one_line(dataset):
    files = {head: (CONFIGS / f"ovd_{dataset}_fvlm_{head}.py").read_text() for head in HEADS}
    assert all(files[head] == files["coop"].replace("prompts/coop.py", f"prompts/{head}.py") for head in HEADS)


def test_lvis_removes_its_own_names():
    names = Config.fromfile(CONFIGS / "ovd_lvis_fvlm_nfl.py").model.language.names
    assert names.generic.exclude == names.heldout.split == "lvis_v1"

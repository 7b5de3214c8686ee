"""Maps computed once equal those computed in every step, and no others are taken for them."""

import json
import os
import pickle
import shutil

import pytest
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from subpt_dense.registry import DATASETS
from subpt_dense.segmentation import cached_maps
from subpt_dense.segmentation.maps_file import MapItem, MapsFile, write_maps
from tests.segmentation.dense_model import (
    COOP,
    SEEN,
    build_segmentor,
    make_runner,
    scenes_config,
    segmentor_config,
    write_scenes,
)
from tests.vision.image_clips import write_image_clip

PREPROCESSOR = {"mean": [127.5] * 3, "std": [63.75] * 3, "bgr_to_rgb": True, "size_divisor": 16}
DENSE_MODEL = {
    "data_preprocessor": {"type": "subpt_dense.DensePreProcessor", "test_cfg": {"size_divisor": 16}, **PREPROCESSOR}
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Pictures of two sizes, one of which is no multiple of a cell."""
    return write_scenes(tmp_path_factory.mktemp("scenes"), sizes=((64, 64), (56, 90)))


@pytest.fixture
def cached(dense_clip, scenes, tmp_path):
    def make(group="all", dataset=None, build=True, **options):
        settings = {"backbone": dense_clip, "preprocessor": PREPROCESSOR, "cache_dir": str(tmp_path / "maps")}
        dataset = scenes_config(scenes, group) if dataset is None else dataset
        config = {"type": "subpt_dense.CachedMaps", "dataset": dataset, **settings, **options}
        return DATASETS.build(config) if build else config

    return make


def step(model, items, training=False):
    data = {key: [item[key] for item in items] for key in ("inputs", "data_samples")}
    return model.data_preprocessor(data, training)


# ---- the numbers -----------------------------------------------------------------------------------------------------


def test_maps_are_the_backbone_s(cached, dense_clip, scenes):
    maps, plain = cached(batch_size=2), DATASETS.build(scenes_config(scenes))
    assert len(maps) == len(plain) == 6 and maps.metainfo == plain.metainfo
    model = build_segmentor(dense_clip, **DENSE_MODEL).eval()
    for i in range(6):
        item, image = maps[i], plain[i]
        (expected,) = model.backbone(step(model, [image])["inputs"])
        assert item["inputs"].shape == expected.shape[1:] and item["inputs"].dtype == torch.float16
        torch.testing.assert_close(item["inputs"].float(), expected[0], atol=1e-2, rtol=1e-3)
        assert torch.equal(item["data_samples"].gt_sem_seg.data, plain[i]["data_samples"].gt_sem_seg.data)
        assert item["data_samples"].img_path == image["data_samples"].img_path


def test_losses_are_those_of_the_images(cached, dense_clip, scenes):
    model = build_segmentor(dense_clip, COOP, SEEN, **DENSE_MODEL).train()
    maps, plain = cached("seen"), DATASETS.build(scenes_config(scenes, "seen"))
    # Of one size: images of several are padded to the largest before the tower sees them, maps after it.
    found, expected = (model.loss(**step(model, [data[i] for i in (1, 3)], True)) for data in (maps, plain))
    assert {*found} == {*expected}
    torch.testing.assert_close(found["decode.loss_ce"], expected["decode.loss_ce"], atol=2e-3, rtol=1e-3)
    for losses in (found, expected):
        losses["gradient"] = torch.autograd.grad(losses["decode.loss_ce"], model.prompt.context)[0]
    cosine = torch.cosine_similarity(found["gradient"].flatten(), expected["gradient"].flatten(), dim=0)
    assert cosine > 0.999


def test_predictions_are_those_of_the_images(cached, dense_clip, scenes):
    model = build_segmentor(dense_clip, **DENSE_MODEL).eval()
    maps, plain = cached(), DATASETS.build(scenes_config(scenes))
    with torch.no_grad():
        together = model.predict(**step(model, [maps[i] for i in range(6)]))
        for i in range(6):
            (alone,) = model.predict(**step(model, [maps[i]]))
            (expected,) = model.predict(**step(model, [plain[i]]))
            for one in (alone, together[i]):
                assert one.seg_logits.data.shape == expected.seg_logits.data.shape == (4, *[(64, 64), (56, 90)][i % 2])
                # In a batch of larger ones a map ends in zeros, towards which the logits at its edge are resized.
                inner = (slice(None), slice(0, 40), slice(0, 40))
                torch.testing.assert_close(
                    one.seg_logits.data[inner], expected.seg_logits.data[inner], atol=0.1, rtol=0
                )


def test_images_pass_the_preprocessor_as_in_mmseg(dense_clip, scenes):
    plain = DATASETS.build(scenes_config(scenes))
    model, host = (build_segmentor(dense_clip, **options) for options in (DENSE_MODEL, {}))
    assert torch.equal(step(model, [plain[1]])["inputs"], step(host, [plain[1]])["inputs"])


def test_a_run_on_maps_needs_no_image_tower(cached, dense_clip, tmp_path, monkeypatch):
    cached("seen"), cached()
    model = segmentor_config(dense_clip, COOP, **DENSE_MODEL)
    runner = make_runner(tmp_path / "run", model, cached("seen", build=False), cached(build=False))
    monkeypatch.setattr(type(runner.model.backbone), "forward", None)
    runner.train()
    assert runner.model.prompt.displacement() > 1e-3 and 0 <= runner.test()["mIoU"] <= 100


# ---- the file --------------------------------------------------------------------------------------------------------


def files(tmp_path):
    return sorted((tmp_path / "maps").glob("*.bin"))


def test_found_again_and_only_for_the_same(cached, dense_clip, scenes, tmp_path):
    first = cached()[3]["inputs"]
    (file,) = files(tmp_path)
    written = file.stat().st_mtime_ns
    assert torch.equal(cached(batch_size=1)[3]["inputs"], first) and file.stat().st_mtime_ns == written
    cached(backbone={**dense_clip, "attention": "qq"})
    assert len(files(tmp_path)) == 2
    cached("seen")
    assert len(files(tmp_path)) == 3
    cached(preprocessor={**PREPROCESSOR, "std": [60.0] * 3})
    assert len(files(tmp_path)) == 4
    cached(preprocessor={**PREPROCESSOR, "pad_val": 1.0})
    assert len(files(tmp_path)) == 5
    copied = tmp_path / "scenes"
    shutil.copytree(scenes, copied)
    cached(dataset=scenes_config(copied))
    os.utime(copied / "img" / "0.png", ns=(1, 1))
    cached(dataset=scenes_config(copied))
    assert len(files(tmp_path)) == 7
    assert not [path for path in (tmp_path / "maps").iterdir() if path.suffix not in (".bin", ".json")]


def test_the_first_process_makes_it(cached, monkeypatch):
    calls = []
    monkeypatch.setattr(cached_maps, "by_first_process", lambda make: calls.append(make()))
    cached()
    assert len(calls) == 1
    monkeypatch.setattr(cached_maps, "by_first_process", lambda make: None)
    with pytest.raises(FileNotFoundError, match="there are no dense maps of that name"):
        cached("seen")


def test_an_unfinished_file_is_made_again(cached, tmp_path):
    first = cached()[2]["inputs"]
    (file,) = files(tmp_path)
    file.with_suffix(".json").unlink()
    file.write_bytes(b"half")
    assert torch.equal(cached()[2]["inputs"], first)


def test_damage_is_refused(cached, tmp_path):
    cached()
    (file,) = files(tmp_path)
    content, manifest = file.read_bytes(), file.with_suffix(".json")
    file.write_bytes(content[:-2])
    with pytest.raises(
        ValueError, match=f"must have the {len(content)} bytes .* It has {len(content) - 2}: remove both"
    ):
        cached()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    cached()
    with pytest.raises(ValueError, match="must have the SHA-256 .* it is damaged"):
        cached(verify=True)
    file.unlink()
    with pytest.raises(ValueError, match="It is missing"):
        cached()
    text = manifest.read_text()
    manifest.write_text(text[:-5])
    with pytest.raises(ValueError, match="must be JSON"):
        cached()
    manifest.write_text(text.replace("dense_maps", "other"))
    with pytest.raises(
        ValueError, match="must have format 'subpt_dense.dense_maps' and version 1. Got 'subpt_dense.other'"
    ):
        cached()
    manifest.write_text(json.dumps({**json.loads(text), "facts": {"model": "x"}}))
    with pytest.raises(ValueError, match="It differs in model: the file has 'x', asked for"):
        cached()


def test_a_pickle_opens_it_again(cached):
    maps = cached()
    expected = maps[1]["inputs"]
    content = pickle.dumps(maps._maps)
    assert len(content) < 10_000 and torch.equal(pickle.loads(content)[1].dense, expected)


def test_labels_of_16_bits_and_without(tmp_path):
    labels = torch.tensor([[[0, 300], [65535, 7]]])
    items = [MapItem(torch.ones(2, 1, 1), labels, {"a": (1, 2)}), MapItem(torch.zeros(2, 1, 3), None, {})]
    write_maps(tmp_path / "x", items, {"k": 1})
    found = MapsFile(tmp_path / "x", {"k": 1}, verify=True)
    assert len(found) == 2 and torch.equal(found[0].labels, labels) and found[0].meta == {"a": (1, 2)}
    assert found[1].labels is None and found[1].dense.shape == (2, 1, 3)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (MapItem(torch.full((1, 1, 1), 1e6), None, {}), "must be finite in float16. That of image 0 is not"),
        (MapItem(torch.ones(1, 1, 1), torch.tensor([[[-1]]]), {}), r"must be in \[0, 65535\]. Got -1"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path, item, message):
    with pytest.raises(ValueError, match=message):
        write_maps(tmp_path / "x", [item], {})
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(FileNotFoundError, match="there are no dense maps of that name"):
        MapsFile(tmp_path / "x", {})


# ---- refusals --------------------------------------------------------------------------------------------------------


CROP = {"type": "mmseg.RandomCrop", "crop_size": (32, 32)}


def drawing(scenes, step):
    config = scenes_config(scenes)
    config["pipeline"].insert(2, step)
    return config


def repeated(dataset):
    return {"type": "mmengine.RepeatDataset", "times": 2, "dataset": dataset}


@pytest.mark.parametrize(
    ("step", "wrap", "name"),
    [
        (CROP, None, "RandomCrop"),
        ({"type": "mmseg.BioMedicalGaussianNoise"}, None, "BioMedicalGaussianNoise"),
        ({"type": "mmengine.TransformBroadcaster", "transforms": [CROP]}, None, "RandomCrop"),
        ({"type": "mmengine.RandomApply", "transforms": [CROP]}, None, "RandomApply, RandomCrop"),
        ({"type": "mmengine.RandomChoice", "transforms": [[CROP]]}, None, "RandomChoice, RandomCrop"),
        (CROP, repeated, "RandomCrop"),
        (CROP, lambda dataset: {"type": "mmengine.ConcatDataset", "datasets": [dataset]}, "RandomCrop"),
    ],
)
def test_random_pipelines_are_refused(cached, scenes, step, wrap, name):
    config = drawing(scenes, step)
    with pytest.raises(ValueError, match=f"without random transforms: each image is read once. Got {name}"):
        cached(dataset=wrap(config) if wrap else config)


def test_a_transform_that_tells_mmcv_of_its_randomness_is_refused(cached, scenes):
    class Jitter(BaseTransform):
        @cache_randomness
        def draw(self):
            return 0.5

        def transform(self, results):
            return results

    with pytest.raises(ValueError, match="Got Jitter"):
        cached(dataset=DATASETS.build(drawing(scenes, Jitter())))


def test_a_repeated_set_without_random_steps(cached, scenes):
    maps = cached(dataset=repeated(scenes_config(scenes)))
    assert len(maps) == 12 and torch.equal(maps[1]["inputs"], maps[7]["inputs"])
    assert maps[7]["data_samples"].img_path.endswith("1.png")


def test_wrapped_sets_of_different_pipelines_have_different_files(cached, scenes, tmp_path):
    small = drawing(scenes, {"type": "mmengine.Resize", "scale": (32, 32)})
    for config in (scenes_config(scenes), small):
        cached(dataset=DATASETS.build(repeated(config)))
    assert len(files(tmp_path)) == 2


def test_a_skipped_image_is_refused(cached, scenes):
    config = scenes_config(scenes)
    config["pipeline"].append(lambda item: None)
    with pytest.raises(ValueError, match="must give an item for every image. Its pipeline skips .*0.png"):
        cached(dataset=DATASETS.build(config))
    training = scenes_config(scenes, "seen")
    training["pipeline"].append(lambda item: None if item["data_samples"].img_path.endswith("0.png") else item)
    with pytest.raises(ValueError, match="must give an item for every image. Its pipeline skips .*0.png"):
        cached(dataset=DATASETS.build(repeated(DATASETS.build(training))))  # which draws another image in its place


def test_maps_of_another_mode_or_tower_are_refused(cached, dense_clip, tmp_path):
    maps = cached()
    other = build_segmentor(dense_clip, **DENSE_MODEL, **{"backbone.attention": "qq"}).eval()
    message = "mode: the map has .*'vanilla'.*, the backbone .*'qq'.*must be the model's"
    with pytest.raises(ValueError, match=message):
        other.predict(**step(other, [maps[0]]))
    with pytest.raises(ValueError, match=message):
        other.train().loss(**step(other, [maps[0]], True))
    clip = write_image_clip(tmp_path, "transformer", seed=3)
    with pytest.raises(ValueError, match="model: the map has .*; weights_hash: the map has"):
        other = build_segmentor(clip, **DENSE_MODEL)
        other.predict(**step(other, [maps[0]]))


@pytest.mark.parametrize("other", [{"std": [60.0] * 3}, {"pad_val": 1.0}], ids=str)
def test_another_normalisation_is_refused(cached, dense_clip, other):
    changed = {f"data_preprocessor.{key}": value for key, value in other.items()}
    model = build_segmentor(dense_clip, **DENSE_MODEL, **changed)
    with pytest.raises(ValueError, match="must be of images that were normalised as by the model's DensePreProcessor"):
        step(model, [cached()[0]])


def test_maps_and_images_do_not_mix(cached, dense_clip, scenes):
    model = build_segmentor(dense_clip, **DENSE_MODEL)
    with pytest.raises(ValueError, match="must be all of images or all of maps. Got both"):
        step(model, [cached()[0], DATASETS.build(scenes_config(scenes))[0]])


def test_maps_are_of_whole_images(cached, dense_clip):
    slide = {"mode": "slide", "crop_size": (32, 32), "stride": (16, 16)}
    model = build_segmentor(dense_clip, **DENSE_MODEL, test_cfg=slide).eval()
    with pytest.raises(ValueError, match="`test_cfg.mode` must be 'whole' for maps"):
        model.predict(**step(model, [cached()[0]]))


def test_maps_without_facts_and_other_backbones_are_refused(dense_clip):
    model = build_segmentor(dense_clip)
    with pytest.raises(ValueError, match="model: the map has None, the backbone"):
        model.predict(torch.zeros(1, 24, 4, 4))

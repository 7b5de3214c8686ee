"""Region extraction against one crop at a time, killed at any moment, and what it refuses before it starts."""

import io
import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from subpt_dense.apis.region_embedder import RegionEmbedder
from subpt_dense.apis.region_images import RegionImages
from subpt_dense.apis.regions import extract_regions
from subpt_dense.classification.image_tower import get_image_tower
from subpt_dense.datasets import RegionCache, file_sha256
from subpt_dense.text import TextSpec
from tests.datasets.region_files import IMAGES, files_of, write_annotations

Extract = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``ann.json``, ``p.json`` and ``images/``: four of them, of which one has no box."""
    rng = np.random.default_rng(0)
    for _, name, width, height in IMAGES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    write_annotations(tmp_path / "ann.json")
    rows = [{"image_id": i, "bbox": [at, at, 12.5, 9 + at], "score": 0.9 - at / 10} for i in (8, 30) for at in range(4)]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    return tmp_path


@pytest.fixture
def extract(folder: Path, tiny_clip: tuple[str, str]) -> Extract:
    def call(out: str = "regions", **options: Any) -> dict[str, Any]:
        common = {"annotations": folder / "ann.json", "images": folder / "images", "clip": TextSpec(*tiny_clip)}
        quiet = {"device": "cpu", "console": Console(file=io.StringIO())}
        return extract_regions(folder / out, **{**common, **quiet, **options})

    return call


def one_at_a_time(path: Path, box: np.ndarray, spec: TextSpec, scales: tuple[float, ...]) -> torch.Tensor:
    """ViLD's embedding of a region ``[D]``, written out: Pillow, crop by crop."""
    image, tower, total = Image.open(path).convert("RGB"), get_image_tower(spec), 0
    (x1, y1, x2, y2), (width, height) = box.tolist(), image.size
    for scale in scales:
        dx, dy = (x2 - x1) * scale / 2, (y2 - y1) * scale / 2
        left, top = np.floor((x1 + x2) / 2 - dx), np.floor((y1 + y2) / 2 - dy)
        right, bottom = np.ceil((x1 + x2) / 2 + dx), np.ceil((y1 + y2) / 2 + dy)
        crop = image.crop((max(left, 0), max(top, 0), min(right, width), min(bottom, height)))
        crop = crop.resize((tower.size, crop.height), Image.Resampling.BICUBIC)
        pixels = np.array(crop.resize((tower.size, tower.size), Image.Resampling.BICUBIC))
        total = total + tower.encode(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]
    return total / total.norm()


@pytest.mark.parametrize("scales", [(1.0, 1.5), (1.0,), (1.0, 1.25, 2.0)])
@pytest.mark.parametrize("source", ["ground truth", "proposals"])
def test_equals_one_crop_at_a_time(
    source: str, scales: tuple[float, ...], folder: Path, extract: Extract, tiny_clip: tuple[str, str]
) -> None:
    extract(scales=scales, batch_size=2, proposals=folder / "p.json" if source == "proposals" else None)
    cache, seen = RegionCache(folder / "regions", verify=True), 0
    assert cache.embed_dim == 24 and cache.image_ids == tuple(image[0] for image in IMAGES)
    for image_id, name, *_ in IMAGES:
        for box, found in zip(cache.boxes(image_id), cache.embeddings(image_id), strict=True):
            expected = one_at_a_time(folder / "images" / name, box, TextSpec(*tiny_clip), scales)
            np.testing.assert_allclose(found.astype(np.float32), expected.numpy(), atol=4e-3)
            assert abs(np.linalg.norm(found.astype(np.float32)) - 1) < 1e-3
            seen += 1
    assert seen == (6 if source == "ground truth" else 8)


def test_manifest(folder: Path, extract: Extract, tiny_clip: tuple[str, str]) -> None:
    manifest = extract(proposals=folder / "p.json", max_per_image=3)
    assert manifest == RegionCache(folder / "regions").manifest
    tower = get_image_tower(TextSpec(*tiny_clip))
    facts = {
        "backbone": tiny_clip[0], "weights": Path(tiny_clip[1]).name, "precision": "fp32", "embed_dim": 24,
        "weights_hash": tower.weights_hash, "crop_size": 32, "scales": [1.0, 1.5], "max_per_image": 3,
        "images": 4, "regions": 6,
        "proposals": {"kind": "file", "file": "../p.json", "sha256": file_sha256(folder / "p.json")},
        "annotations": {"file": "../ann.json", "sha256": file_sha256(folder / "ann.json")},
    }  # fmt: skip
    assert {key: manifest[key] for key in facts} == facts
    truth = extract("truth")
    assert truth["proposals"] == {"kind": "ground_truth", **manifest["annotations"]} and truth["max_per_image"] is None


def test_workers_and_time_do_not_matter(folder: Path, extract: Extract) -> None:
    extract("one")
    extract("two", workers=2)
    assert files_of(folder / "one") == files_of(folder / "two")
    extract("one")  # again: nothing to do
    assert files_of(folder / "one") == files_of(folder / "two")


def test_says_what_is_to_come(folder: Path, extract: Extract) -> None:
    text = io.StringIO()
    extract(console=Console(file=text, width=200))
    assert "regions: 4 images, 6 regions in 1 shards; 0.0 MiB still to write, " in text.getvalue()
    assert "regions: 6 regions of 4 images" in text.getvalue()


def kill_often(extract: Extract, kills: int, longest: float, **options: Any) -> int:
    """Extract in processes that are killed at random moments, then in one that is not; how many were killed at work."""
    rng, context, killed = random.Random(kills), multiprocessing.get_context("fork"), 0
    for _ in range(kills):
        process = context.Process(target=extract, args=("killed",), kwargs=options)
        process.start()
        time.sleep(rng.uniform(0.0, longest))
        process.kill()
        process.join()
        killed += process.exitcode == -9
    extract("killed", **options)
    return killed


@pytest.mark.parametrize(("kills", "workers"), [(4, 0), pytest.param(25, 1, marks=pytest.mark.slow)])
def test_killed_at_random_moments(kills: int, workers: int, folder: Path, extract: Extract) -> None:
    boxes = [[2.0 + at % 17, 3.0, 10.0 + at, 9.0] for at in range(6)]
    images = [(number, IMAGES[number % 4][1], *IMAGES[number % 4][2:]) for number in range(16)]
    truth = [{"id": 1, "image_id": i, "category_id": 1, "bbox": box} for i, *_ in images for box in boxes]
    options = {"annotations": write_annotations(folder / "many.json", truth, images), "batch_size": 1,
               "shard_regions": 20, "workers": workers}  # fmt: skip
    begin = time.perf_counter()
    extract("whole", **options)
    assert kill_often(extract, kills, time.perf_counter() - begin, **options) >= 1
    assert files_of(folder / "killed") == files_of(folder / "whole")


def test_finished_images_are_not_done_again(folder: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []

    embed = RegionEmbedder.__call__

    def counted(self: RegionEmbedder, image: torch.Tensor, boxes: np.ndarray) -> torch.Tensor:
        if len(seen) == 2:
            seen.append(())
            raise KeyboardInterrupt
        seen.append(tuple(image.shape[1:]))
        return embed(self, image, boxes)

    monkeypatch.setattr(RegionEmbedder, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        extract()
    extract()
    assert seen == [(30, 40), (48, 64), (), (60, 50)], "in order, and the image without a box is not read"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": (1.0,)}, r"scales: the folder has \[1.0, 1.5\], you ask for \[1.0\]"),
        ({"batch_size": 3}, "batch_size: the folder has 64, you ask for 3"),
        ({"proposals": "p.json"}, "max_per_image: .*; proposals: the folder has {'kind': 'ground_truth'"),
    ],
)
def test_another_command_is_refused(change: dict[str, Any], message: str, folder: Path, extract: Extract) -> None:
    extract()
    if "proposals" in change:
        change = {"proposals": folder / change["proposals"]}
    with pytest.raises(FileExistsError, match=message):
        extract(**change)


def test_other_weights_are_refused(
    folder: Path, extract: Extract, tiny_clip: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.tiny_clip import random_clip, save_weights

    extract()
    other = tmp_path_factory.mktemp("other") / Path(tiny_clip[1]).name
    save_weights(other, random_clip(tiny_clip[0], seed=5).state_dict())
    spec = TextSpec(tiny_clip[0], str(other))
    with pytest.raises(FileExistsError, match="weights_hash: the folder has .*, you ask for"):
        extract(clip=spec)
    with pytest.raises(ValueError, match="must come from the image tower in use"):
        RegionCache(folder / "regions", weights_hash=get_image_tower(spec).weights_hash)


def test_changed_proposals_are_refused(folder: Path, extract: Extract) -> None:
    extract(proposals=folder / "p.json")
    (folder / "p.json").write_text("[]")
    with pytest.raises(FileExistsError, match="proposals: the folder has .*sha256.*, you ask for"):
        extract(proposals=folder / "p.json")
    with pytest.raises(ValueError, match="the cache is stale"):
        RegionCache(folder / "regions")


def test_a_full_disk_is_refused(folder: Path, extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1000, 900, 100))
    with pytest.raises(OSError, match=r"must have 0.0 MiB free for what is still to be written. It has 0.0 MiB"):
        extract()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scales": ()}, r"`scales` of RegionEmbedder must be numbers of at least 1. Got \[\]"),
        ({"scales": (1.0, 0.5)}, r"`scales` .* Got \[1.0, 0.5\]"),
        ({"batch_size": 0}, "`batch_size` of RegionEmbedder must be at least 1. Got 0"),
        ({"max_per_image": 0}, "`max_per_image`"),
        ({"shard_regions": 0}, "`shard_regions` of extract_regions must be at least 1. Got 0"),
    ],
)
def test_refused_arguments(options: dict[str, Any], message: str, folder: Path, extract: Extract) -> None:
    with pytest.raises(ValueError, match=message):
        extract(**options)
    assert not (folder / "regions").exists()


def test_missing_files_are_named_before_the_start(folder: Path, extract: Extract) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.json does not exist"):
        extract(proposals=folder / "nowhere.json")
    (folder / "images" / "b.png").unlink()
    (folder / "images" / "sub" / "c.png").unlink()  # has no box: not needed
    with pytest.raises(FileNotFoundError, match=r"images lacks b.png \(1 of 3 images with regions\)"):
        extract()


def test_a_broken_image_is_named(folder: Path, extract: Extract) -> None:
    path = folder / "images" / "b.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="The image .*b.png cannot be read"):
        extract()


def test_an_image_of_another_size_is_named(folder: Path, extract: Extract) -> None:
    Image.new("RGB", (64, 47)).save(folder / "images" / "b.png")
    with pytest.raises(ValueError, match="b.png must be 64x48 pixels, as the annotation file says. It is 64x47"):
        extract()


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_images_of_any_mode(mode: str, tmp_path: Path) -> None:
    name = "a.jpg" if mode in ("L", "CMYK") else "a.png"
    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(tmp_path / name)
    found = RegionImages(tmp_path, [name], np.array([[6, 8]]))[0]
    assert found.shape == (3, 8, 6) and found.dtype == torch.uint8
    expected = np.array(Image.open(tmp_path / name).convert("RGB"))
    np.testing.assert_array_equal(found.permute(1, 2, 0).numpy(), expected)


def test_a_rotation_in_exif_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 8), (200, 0, 0))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert RegionImages(tmp_path, ["a.jpg"], np.array([[8, 6]]))[0].shape == (3, 6, 8)


def test_no_box(tiny_clip: tuple[str, str]) -> None:
    tower = get_image_tower(TextSpec(*tiny_clip))
    assert RegionEmbedder(tower)(torch.zeros(3, 9, 9, dtype=torch.uint8), np.zeros((0, 4))).shape == (0, 24)

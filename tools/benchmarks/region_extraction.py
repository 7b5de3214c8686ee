"""Region extraction beside a loop over crops with Pillow, as CLIP's own preprocessing cuts and resizes them.

``python tools/benchmarks/region_extraction.py --json regions.json``

Two comparisons, reported apart, on random pictures of the size of photographs (640x480) with boxes of the sizes of
COCO's objects, each cropped at 1 and 1.5 times its size:

- ``crops``: cut and resize all crops of a picture to 224x224, as uint8. ``pillow`` does so crop by crop.
- ``extraction``: from JPEG files to a finished cache, with the toy CLIP (64x64 pixels). ``pillow`` takes crop after
  crop through the tower; ``pillow, encoded together`` cuts and resizes crop by crop, but encodes as many at a time as
  we do: what then remains of the difference is the cutting and resizing.
"""

import argparse
import io
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Timing, commit, interleaved, machine, paired_ratio, paired_ratios
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize
from torchvision.transforms.functional import pil_to_tensor

from subpt_dense.apis.region_crops import crop_and_resize, crop_windows
from subpt_dense.apis.regions import extract_regions
from subpt_dense.classification.image_tower import ImageTower, get_image_tower
from subpt_dense.datasets import write_json
from subpt_dense.text import TextSpec
from subpt_dense.toyworld import write_checkpoint

WIDTH, HEIGHT = 640, 480
SCALES = (1.0, 1.5)
BATCH = 64
#: Times as fast as `pillow`, at least.
LIMITS = {"crops": 5.0, "extraction": 3.0}

Contestants = dict[str, Callable[[], object]]


def random_boxes(count: int, seed: int) -> NDArray[np.float64]:
    """``[count, 4]`` x1 y1 x2 y2 inside the picture, the longer side up to twice the shorter.

    The root of the area is log-uniform from 8.5 to 215 pixels: as of COCO's objects, 41 % are small (below 32), 34 %
    medium (to 96) and 25 % large. The larger a crop, the smaller our lead: Pillow's overhead weighs less.
    """
    rng = np.random.default_rng(seed)
    root, ratio = np.exp(rng.uniform(np.log(8.5), np.log(215), count)), np.exp(rng.uniform(-0.35, 0.35, count))
    sides = np.stack([root * ratio, root / ratio], axis=1)
    corners = rng.uniform(0, 1, (count, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def all_windows(boxes: NDArray[np.float64]) -> NDArray[np.int64]:
    """The windows of both scales, ``[2 N, 4]``."""
    return np.concatenate([crop_windows(boxes, scale, HEIGHT, WIDTH) for scale in SCALES])


def by_pillow(image: Image.Image, window: list[int], size: int) -> Tensor:
    """One crop, uint8 ``[3, S, S]``."""
    left, top, right, bottom = window
    return pil_to_tensor(image.crop((left, top, right, bottom)).resize((size, size), Image.Resampling.BICUBIC))


def crop_contestants(regions: int, size: int, device: torch.device) -> Contestants:
    """All crops of one picture, a batch at a time."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    picture, tensor = Image.fromarray(pixels), torch.from_numpy(pixels).permute(2, 0, 1)
    windows = all_windows(random_boxes(regions, 0))
    batches = [windows[at : at + BATCH] for at in range(0, len(windows), BATCH)]

    memory = torch.empty((BATCH, 3, size, size), dtype=torch.uint8, memory_format=torch.channels_last)

    def ours() -> None:
        image = tensor.to(device)
        for batch in batches:
            crops = crop_and_resize(image, batch, size, out=memory[: len(batch)])
            crops[:, 0, 0, 0].cpu()  # read a number, so that a GPU is waited for

    def pillow() -> None:
        for batch in batches:
            torch.stack([by_pillow(picture, window, size) for window in batch.tolist()])

    return {"ours": ours, "pillow": pillow}


def write_pictures(folder: Path, pictures: int, regions: int) -> None:
    """Random pictures as JPEG files, their COCO file and a proposal file."""
    (folder / "images").mkdir()
    rng, images, rows = np.random.default_rng(0), [], []
    for number in range(pictures):
        small = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
        small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": WIDTH, "height": HEIGHT})
        for x1, y1, x2, y2 in random_boxes(regions, number).tolist():
            rows.append({"image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": float(rng.random())})
    write_json(folder / "ann.json", {"images": images, "annotations": [], "categories": []})
    write_json(folder / "proposals.json", rows)


def extraction_contestants(folder: Path, spec: TextSpec, device: torch.device) -> Contestants:
    """From files to embeddings on disk."""
    tower, count = get_image_tower(spec, device), iter(range(10**6))
    boxes: dict[int, list[list[float]]] = {}
    for row in json.loads((folder / "proposals.json").read_text(encoding="utf-8")):
        x, y, width, height = row["bbox"]
        boxes.setdefault(row["image_id"], []).append([x, y, x + width, y + height])

    def ours() -> None:
        extract_regions(
            folder / f"cache_{next(count)}", annotations=folder / "ann.json", images=folder / "images", clip=spec,
            proposals=folder / "proposals.json", scales=SCALES, max_per_image=10**6, batch_size=BATCH,
            device=str(device), console=Console(file=io.StringIO()),
        )  # fmt: skip

    def loop(encode: Callable[[ImageTower, list[Tensor]], Tensor]) -> Callable[[], None]:
        def run() -> None:
            for number, found in boxes.items():
                with Image.open(folder / "images" / f"{number}.jpg") as file:
                    image = file.convert("RGB")
                total = sum(
                    encode(tower, [by_pillow(image, window, tower.size) for window in windows.tolist()])
                    for windows in (crop_windows(found, scale, HEIGHT, WIDTH) for scale in SCALES)
                )
                assert isinstance(total, Tensor)
                np.save(folder / f"loop_{number}.npy", normalize(total, dim=1).half().cpu().numpy())

        return run

    return {"ours": ours, "pillow": loop(_one_by_one), "pillow, encoded together": loop(_together)}


def _one_by_one(tower: ImageTower, crops: list[Tensor]) -> Tensor:
    return torch.cat([tower.encode(crop[None]) for crop in crops])


def _together(tower: ImageTower, crops: list[Tensor]) -> Tensor:
    return torch.cat([tower.encode(torch.stack(crops[at : at + BATCH])) for at in range(0, len(crops), BATCH)])


def compare(contestants: Contestants, regions: int, rounds: int) -> dict[str, Any]:
    """Regions a second of each, and how many times as long the others take."""
    timings = interleaved(contestants, rounds)
    return {
        "regions": regions,
        "regions_per_second": {
            name: {field: regions / statistics.median(getattr(one, field) for one in found) for field in Timing._fields}
            for name, found in timings.items()
        },
        "speedup": {
            name: {
                **{field: paired_ratio(found, timings["ours"], field) for field in Timing._fields},
                **{f"{field}_range": _range(found, timings["ours"], field) for field in Timing._fields},
            }
            for name, found in timings.items()
            if name != "ours"
        },
    }


def _range(slow: Sequence[Timing], fast: Sequence[Timing], field: str) -> list[float]:
    ratios = paired_ratios(slow, fast, field)
    return [min(ratios), max(ratios)]


def show(results: Mapping[str, Any]) -> None:
    """Print what was found, and whether the limits are kept."""
    print(f"{results['device']}, commit {results['commit']}, {results['rounds']} rounds")
    for part, limit in LIMITS.items():
        found = results[part]
        print(f"\n{part}: {found['regions']} regions, {results['clip'] if part == 'extraction' else '224x224'}")
        for name, speed in found["regions_per_second"].items():
            line = f"  {name:26s} {speed['cpu']:8.0f} regions/s of CPU time, {speed['wall']:8.0f} on the clock"
            if name in found["speedup"]:
                times = found["speedup"][name]
                low, high = times["cpu_range"]
                line += f"; ours is {times['cpu']:.1f} ({low:.1f}..{high:.1f}) and {times['wall']:.1f} times as fast"
            print(line)
        kept = found["speedup"]["pillow"]["cpu" if results["place"] == "cpu" else "wall"] >= limit
        print(f"  limit {limit:g} over `pillow`: {'kept' if kept else 'NOT kept'}")


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed rounds (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="few regions and rounds: shows that it runs")
    parser.add_argument("--model", default="subpt-toy", help="open_clip model for `extraction` (default: %(default)s)")
    parser.add_argument("--pretrained", help="its weights, tag or file; by default the toy CLIP's")
    parser.add_argument("--device", default="cpu", help="where we crop and all encode (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be at least 1. Got {options.rounds}.")
    if options.model != "subpt-toy" and options.pretrained is None:
        parser.error(f"--pretrained must be given for {options.model}.")
    torch.set_num_threads(1)
    device, rounds = torch.device(options.device), 2 if options.quick else options.rounds
    regions, pictures = (16, 2) if options.quick else (300, 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pictures(folder, pictures, regions // 4)
        spec = TextSpec(options.model, options.pretrained or str(write_checkpoint(0, folder)))
        results = {
            "device": machine(),
            "place": device.type,
            "commit": commit(),
            "rounds": rounds,
            "clip": options.model,
            "crops": compare(crop_contestants(regions, 224, device), regions, rounds),
            "extraction": compare(extraction_contestants(folder, spec, device), pictures * (regions // 4), rounds),
        }
    show(results)
    if options.json:
        write_json(options.json, results, indent=1)


if __name__ == "__main__":
    main()

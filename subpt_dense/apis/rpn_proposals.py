"""A detector's region proposals, written as a COCO results file (I images)."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.dist import barrier, get_dist_info
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn
from torch.utils.data import DataLoader, Dataset

from subpt_dense.apis.config import load_config
from subpt_dense.datasets.files import file_sha256, write_json
from subpt_dense.datasets.proposals import list_images
from subpt_dense.registry import MODELS

_PARTS = ("backbone", "neck", "rpn_head")


def dump_proposals(
    path: str | Path,
    *,
    config: str | Path,
    checkpoint: str | Path,
    annotations: str | Path,
    images: str | Path,
    max_per_image: int = 300,
    workers: int = 0,
    device: str | None = None,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write what the region proposal network of a two-stage detector finds in every image, best first.

    The file is a JSON list of ``{"image_id", "bbox": [x, y, width, height], "score"}``, in pixels of the original
    image, to 1/100 pixel. Beside it, ``<name>.origin.json`` says what made it. A file that the same detector made is
    kept. In a process group each rank does a part of the images.

    Args:
        path: The file, ending in ``.json``.
        config: The detector's; its test pipeline prepares the images, and its class rows are not needed.
        checkpoint: Its weights.
        annotations: COCO or LVIS annotation file, which says what the images are.
        images: Their folder.
        max_per_image: Proposals kept after non-maximum suppression.
        workers: Processes that read images ahead.
        device: Where the network runs; None for the best there is.
        console: Where progress goes.

    Returns:
        What made the file.

    Raises:
        FileNotFoundError: If a file does not exist.
        FileExistsError: If ``path`` was made by something else; both sides are named.
        ValueError: If ``path`` is no JSON file, the config's model has no region proposal network, or the checkpoint
            lacks a part of it.
    """
    path, origin_path = Path(path), Path(path).with_suffix(".origin.json")
    if path.suffix != ".json" or not Path(checkpoint).is_file():
        if path.suffix != ".json":
            raise ValueError(f"`path` of dump_proposals must end in .json. Got {str(path)!r}.")
        raise FileNotFoundError(f"The checkpoint {checkpoint} does not exist.")
    cfg = load_config(config, pretty=False)
    if "rpn" not in cfg.model.get("test_cfg", {}):
        raise ValueError(
            f"`config` must be of a detector with a region proposal network, `model.test_cfg.rpn`. {config} has none."
        )
    cfg.model.test_cfg.rpn.max_per_img = max_per_image
    pipeline = [step for step in cfg.test_dataloader.dataset.pipeline if not step.type.endswith("LoadAnnotations")]
    origin = {
        "config": Path(config).name,
        "config_sha256": hashlib.sha256(repr((cfg.model.to_dict(), pipeline)).encode()).hexdigest(),
        "checkpoint": Path(checkpoint).name,
        "checkpoint_sha256": file_sha256(checkpoint),
        "annotations_sha256": file_sha256(annotations),
        "max_per_image": max_per_image,
    }
    barrier()
    if path.is_file():
        _check_origin(path, origin_path, origin)
        return origin
    rank, world = get_dist_info()
    known = list_images(annotations)
    mine = known[rank * len(known) // world : (rank + 1) * len(known) // world]  # joined, they are in order
    part = path.with_name(f".{path.name}.{rank}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    lines = _proposals(cfg, pipeline, checkpoint, mine, Path(images), workers, device, console)
    with part.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in lines)
    barrier()
    if rank == 0:
        write_json(origin_path, origin, indent=1)
        _join(path, [path.with_name(f".{path.name}.{one}.part") for one in range(world)])
    barrier()
    return origin


def _proposals(
    cfg: Config,
    pipeline: list[Any],
    checkpoint: str | Path,
    images: list[dict[str, Any]],
    folder: Path,
    workers: int,
    device: str | None,
    console: Console | None,
) -> Iterator[dict[str, Any]]:
    """The rows of a results file, image by image."""
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model: Any = MODELS.build(cfg.model)
    load_proposal_network(model, checkpoint)
    model = model.to(device or get_device()).eval()
    inputs = _Inputs(pipeline, images, folder)
    loader = DataLoader(inputs, batch_size=1, collate_fn=pseudo_collate, num_workers=workers)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    console = console or Console(stderr=True, quiet=get_dist_info()[0] > 0)
    with Progress(TextColumn("{task.description}"), *columns, console=console) as progress, torch.no_grad():
        task = progress.add_task("proposals: images", total=len(images))
        for image, batch in zip(images, loader, strict=True):
            data = model.data_preprocessor(batch, False)
            features = model.extract_feat(data["inputs"])
            found = model.rpn_head.predict(features, data["data_samples"], rescale=True)[0]
            for (x1, y1, x2, y2), score in zip(found.bboxes.tolist(), found.scores.tolist(), strict=True):
                box = [round(x1, 2), round(y1, 2), round(x2 - x1, 2), round(y2 - y1, 2)]
                if box[2] > 0 and box[3] > 0:
                    yield {"image_id": image["id"], "bbox": box, "score": round(score, 6)}
            progress.advance(task)


def load_proposal_network(model: nn.Module, checkpoint: str | Path) -> None:
    """Load backbone, neck and region proposal network from a detector's checkpoint; the rest is not needed.

    Raises:
        ValueError: If the checkpoint lacks a tensor of theirs, or has one of another shape; names the first.
    """
    state = CheckpointLoader.load_checkpoint(str(checkpoint), map_location="cpu")
    state = state.get("state_dict", state)
    for name in _PARTS:
        part = getattr(model, name, None)
        if part is None:
            continue
        prefix = f"{name}."
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        try:
            part.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"`checkpoint` must hold the config's `{name}`. {checkpoint} does not fit: "
                f"{' '.join(str(error).split())[:300]}."
            ) from error


class _Inputs(Dataset):
    """Images through the detector's test pipeline."""

    def __init__(self, pipeline: list[Any], images: list[dict[str, Any]], folder: Path) -> None:
        self._pipeline, self._images, self._folder = Compose(pipeline), images, folder

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, at: int) -> Any:
        image = self._images[at]
        facts = {"img_id": image["id"], "height": image["height"], "width": image["width"]}
        return self._pipeline({"img_path": str(self._folder / image["file"]), **facts})


def _check_origin(path: Path, origin_path: Path, origin: dict[str, Any]) -> None:
    found = json.loads(origin_path.read_text(encoding="utf-8")) if origin_path.is_file() else {}
    differing = [key for key in origin if found.get(key) != origin[key]]
    if differing:
        sides = "; ".join(f"{key}: the file has {found.get(key)}, you ask for {origin[key]}" for key in differing)
        raise FileExistsError(
            f"The proposal file {path} must be new, or made by the same detector. Got {sides}. Remove it, or choose "
            "another output folder."
        )


def _join(path: Path, parts: list[Path]) -> None:
    """One JSON list of all parts' lines, in its place at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        separator = "["
        for part in parts:
            with part.open(encoding="utf-8") as lines:
                for line in lines:
                    file.write(f"{separator}{line.rstrip()}")
                    separator = ",\n"
        file.write("]\n" if separator != "[" else "[]\n")
    os.replace(temporary, path)
    for part in path.parent.glob(f".{path.name}.*.part"):
        part.unlink()

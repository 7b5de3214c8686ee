"""Image features computed once: without augmentation, a training step needs no image tower (N images, D embedding)."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from subpt_dense.classification.image_tower import get_image_tower
from subpt_dense.registry import DATASETS
from subpt_dense.text import TextSpec


@DATASETS.register_module()
class CachedFeatures(Dataset):
    """A data set of images, read as the frozen tower's features of them.

    They are computed when the first item is asked for, kept in memory, and in a file that another run with the same
    images, pipeline and weights finds. The pipeline must not draw random numbers: each image is read once.

    Args:
        dataset: The data set of images, or its config; items hold ``inputs`` (uint8 ``[3, S, S]``) and ``label``.
        image: The CLIP, ``dict(model=..., pretrained=..., precision="fp32")``.
        cache_dir: Folder of the feature files; ``None`` writes none.
        batch_size: Images encoded at a time.
        num_workers: Processes that read images meanwhile.
    """

    def __init__(
        self,
        dataset: Any,
        image: Mapping[str, Any],
        cache_dir: str | None = "work_dirs/features",
        batch_size: int = 256,
        num_workers: int = 0,
    ) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        self._image = TextSpec(**image)
        self._cache_dir = cache_dir
        self._reading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        self._tower_hash = ""
        self._known: tuple[Tensor, list[int]] | None = None

    @property
    def metainfo(self) -> dict[str, Any]:
        """The data set's own."""
        return self.dataset.metainfo

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: a unit feature ``[D]`` float32; ``label``, ``index``, and the ``tower``'s weights hash."""
        if self._known is None:
            labels = [self.dataset.get_data_info(i)["gt_label"] for i in range(len(self))]
            self._tower_hash = get_image_tower(self._image).weights_hash
            self._known = self._features(), labels
        features, labels = self._known
        return {"inputs": features[index], "label": labels[index], "index": index, "tower": self._tower_hash}

    def _features(self) -> Tensor:
        file = None if self._cache_dir is None else Path(self._cache_dir) / f"{self._key()}.safetensors"
        if file is not None and file.is_file():
            return load_file(file)["features"]
        tower = get_image_tower(self._image, get_device())
        print_log(f"encoding {len(self)} images of {type(self.dataset).__name__} once", "current")
        batches = DataLoader(_Images(self.dataset), **self._reading)
        parts = [torch.zeros(0, tower.embed_dim), *(tower.encode(images).cpu() for images in batches)]
        features = torch.cat(parts)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}.partial")
            save_file({"features": features}, partial)
            os.replace(partial, file)
        return features

    def _key(self) -> str:
        """Of all that the features depend on: weights, precision, pipeline, images (path, size, time of change)."""
        infos = (self.dataset.get_data_info(i) for i in range(len(self)))
        stats = ((info["img_path"], os.stat(info["img_path"])) for info in infos)
        files = [[os.path.abspath(path), stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        facts = [self._tower_hash, self._image.precision, repr(self.dataset.pipeline), files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


class _Images(Dataset):
    """What the data loader reads: the pixels alone."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Tensor:
        return self._dataset[index]["inputs"]

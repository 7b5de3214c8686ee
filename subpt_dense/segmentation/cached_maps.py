"""Dense maps computed once: without augmentation, a training step needs no image tower (D embedding, h x w cells)."""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader, Dataset

from subpt_dense.registry import DATASETS, MODELS
from subpt_dense.segmentation.dense_backbone import DenseCLIPBackbone
from subpt_dense.segmentation.first_process import by_first_process
from subpt_dense.segmentation.map_facts import DENSE
from subpt_dense.segmentation.maps_file import MapItem, MapsFile, write_maps
from subpt_dense.segmentation.preprocessor import DensePreProcessor
from subpt_dense.segmentation.random_steps import random_steps, steps_of


@DATASETS.register_module()
class CachedMaps(Dataset):
    """An mmseg data set, read as the frozen backbone's maps of its images.

    They are computed when the data set is built, in float16, and lie in a file that another run with the same images,
    label maps, pipeline and weights finds; it is read through a memory map. Of several processes the first computes
    them, and the others wait as long as it takes: for a large set that is one process's time, spent once. An item
    has ``inputs`` ``[D, h, w]`` and ``data_samples``, whose metainfo says where the map comes from: the model's
    preprocessor must be a :class:`subpt_dense.segmentation.DensePreProcessor`, and its backbone the same one.

    Args:
        dataset: The data set, or its config; items hold ``inputs`` (uint8 ``[3, H, W]``) and ``data_samples``. Its
            pipeline must not draw random numbers, nor a wrapper's, nor a transform inside another: each image is read
            once.
        backbone: The model's :class:`subpt_dense.segmentation.DenseCLIPBackbone`: its arguments, or its config.
        preprocessor: The model's ``data_preprocessor``.
        cache_dir: Folder of the files.
        batch_size: Images of one size encoded at a time.
        num_workers: Processes that read images meanwhile.
        verify: Also compare the SHA-256 of a file that is found, which reads it whole.

    Raises:
        FileNotFoundError, RuntimeError: If the backbone's weights cannot be had.
        RuntimeError: In the other processes, if the first one failed.
        ValueError: If the pipeline draws random numbers or skips an image, or a file that is found is damaged.
    """

    def __init__(
        self,
        dataset: Any,
        backbone: Mapping[str, Any],
        preprocessor: Mapping[str, Any],
        cache_dir: str = "work_dirs/maps",
        batch_size: int = 8,
        num_workers: int = 0,
        verify: bool = False,
    ) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, Mapping) else dataset
        _check_pipeline(self.dataset)
        self._backbone: DenseCLIPBackbone = MODELS.build({"type": "subpt_dense.DenseCLIPBackbone", **backbone})
        divisor = {"size_divisor": self._backbone.stride}
        settings = {**preprocessor, "type": "subpt_dense.DensePreProcessor", "test_cfg": divisor}
        self._preprocessor: DensePreProcessor = MODELS.build(settings)
        self._reading: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers}
        self._facts = {
            **self._backbone.identity(),
            "stride": self._backbone.stride,
            "normalisation": self._preprocessor.normalisation(),
        }
        path = Path(cache_dir) / self._key(repr(dataset if isinstance(dataset, Mapping) else steps_of(dataset)))
        by_first_process(lambda: self._write(path))
        self._maps = MapsFile(path, self._facts, verify=verify)

    @property
    def metainfo(self) -> dict[str, Any]:
        """The data set's own."""
        return self.dataset.metainfo

    def get_data_info(self, index: int) -> dict[str, Any]:
        """The data set's own."""
        return self.dataset.get_data_info(index)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``inputs``: a map ``[D, h, w]`` float16; ``data_samples``: the sample, with labels if there are any."""
        dense, labels, meta = self._maps[index]
        sample = SegDataSample(metainfo={**meta, DENSE: self._facts})
        if labels is not None:
            sample.gt_sem_seg = PixelData(data=labels)
        return {"inputs": dense, "data_samples": sample}

    def _write(self, path: Path) -> None:
        if not path.with_suffix(".json").is_file():
            print_log(f"dense maps of {len(self)} images of {type(self.dataset).__name__}, once: {path}", "current")
            write_maps(path, self._encoded(), self._facts)

    def _encoded(self) -> Iterator[MapItem]:
        """All items in order; images of one size that follow each other are encoded together."""
        device = get_device()
        loader = DataLoader(
            _Items(self.dataset), batch_size=None, num_workers=self._reading["num_workers"], collate_fn=_as_it_is
        )
        waiting: list[dict[str, Any]] = []
        for item in loader:
            other_size = waiting and waiting[0]["inputs"].shape != item["inputs"].shape
            if other_size or len(waiting) == self._reading["batch_size"]:
                yield from self._encode(waiting, device)
                waiting = []
            waiting.append(item)
        if waiting:
            yield from self._encode(waiting, device)

    @torch.no_grad()
    def _encode(self, items: list[dict[str, Any]], device: str) -> Iterator[MapItem]:
        samples = [item["data_samples"] for item in items]
        metas = [dict(sample.metainfo) for sample in samples]  # before they are padded
        batch = {"inputs": [item["inputs"] for item in items], "data_samples": [SegDataSample() for _ in items]}
        images = self._preprocessor.to(device)(batch, training=False)["inputs"]
        (maps,) = self._backbone(images)
        for item, sample, meta, dense in zip(items, samples, metas, maps, strict=True):
            labels = sample.gt_sem_seg.data if "gt_sem_seg" in sample else None
            yield MapItem(dense, labels, {**meta, "img_shape": item["inputs"].shape[1:]})

    def _key(self, source: str) -> str:
        """Of all that maps and labels depend on: tower, mode, pipeline, classes, files (path, size, time of change)."""
        infos = [self.dataset.get_data_info(i) for i in range(len(self))]
        paths = [info[key] for info in infos for key in ("img_path", "seg_map_path") if info.get(key)]
        stats = [(os.path.abspath(path), os.stat(path)) for path in paths]
        files = [[path, stat.st_size, stat.st_mtime_ns] for path, stat in stats]
        steps = re.sub(r" at 0x[0-9a-f]+", "", source)
        meta = {key: value for key, value in sorted(self.metainfo.items()) if key != "palette"}
        facts = [self._facts, type(self.dataset).__name__, steps, repr(meta), files]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


class _Items(Dataset):
    """What the data loader reads: items as the pipeline gives them, none in place of another."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = getattr(self._dataset, "prepare_data", self._dataset.__getitem__)(index)
        path = self._dataset.get_data_info(index).get("img_path")
        if item is None or item["data_samples"].metainfo.get("img_path", path) != path:  # a wrapper draws another one
            raise ValueError(
                f"`dataset` of CachedMaps must give an item for every image. Its pipeline skips {path or index}."
            )
        return item


def _as_it_is(item: Any) -> Any:
    return item


def _check_pipeline(dataset: Any) -> None:
    drawn = random_steps(dataset)
    if drawn:
        raise ValueError(
            "`dataset` of CachedMaps must have a pipeline without random transforms: each image is read once. "
            f"Got {', '.join(drawn)}."
        )

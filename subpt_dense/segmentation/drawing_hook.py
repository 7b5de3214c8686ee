"""Which pictures are drawn, and where they go."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.structures import SegDataSample

from subpt_dense.registry import HOOKS
from subpt_dense.segmentation.drawing import read_picture


@HOOKS.register_module()
class ClassMapHook(Hook):
    """Draws every ``interval``-th class map of a validation or test, as ``mmdet.DetVisualizationHook`` draws boxes.

    (mmseg's own hook has no folder for the pictures, which ``tools/test.py --show-dir`` needs.)

    Args:
        draw: Whether anything is drawn.
        interval: Of the pictures, >= 1.
        test_out_dir: Folder for those of a test, one PNG a picture, below the run's own folder or absolute. ``None``:
            they go to the visualizer's back ends, as those of a validation do.

    Raises:
        ValueError: If ``interval`` is not positive.
    """

    def __init__(self, draw: bool = False, interval: int = 1, test_out_dir: str | None = None) -> None:
        if interval < 1:
            raise ValueError(f"`interval` of ClassMapHook must be at least 1. Got {interval}.")
        self.draw, self.interval, self.test_out_dir = draw, interval, test_out_dir
        self._count = 0

    def before_val(self, runner: Runner) -> None:
        """Count from the start."""
        self._count = 0

    def before_test(self, runner: Runner) -> None:
        """Count from the start."""
        self._count = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[SegDataSample] | None = None
    ) -> None:
        """To the back ends."""
        self._after(runner, outputs or (), None)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[SegDataSample] | None = None
    ) -> None:
        """To the folder, or the back ends."""
        if self.test_out_dir is None:
            return self._after(runner, outputs or (), None)
        return self._after(runner, outputs or (), Path(runner.work_dir) / runner.timestamp / self.test_out_dir)

    def _after(self, runner: Runner, outputs: Sequence[SegDataSample], folder: Path | None) -> None:
        if not self.draw:
            return
        visualizer = Visualizer.get_current_instance()
        for sample in outputs:
            self._count += 1
            if (self._count - 1) % self.interval:
                continue
            name = Path(sample.img_path).stem
            out_file = None if folder is None else str(folder / f"{name}.png")
            visualizer.add_datasample(name, read_picture(sample.img_path), sample, out_file=out_file, step=runner.iter)

"""What a prompt head costs a detector: steps of the toy detector with each head against a plain linear classifier.

    python tools/benchmarks/detector_step.py [--quick] [--heads HEAD ...] [--json FILE]

The claim: with a learned prompt a training step takes at most 1.10 times that of the linear classifier, a test step
1.01 times. All contestants run in one process on one thread, in turns, on the same batches, loaded beforehand. A figure
is the median over the rounds of the ratio within a round; its error is one standard error of that median.

Training: one iteration of mmengine's loop with the config's optimizer and hooks; FiniteLossHook and, for SubPT, the
projecting SubspaceHook are among them. ``linear`` is mmdet's FasterRCNN with its default classifier for the 48 base
classes and mmengine's default hooks, on the same trunk, proposals and losses. SubPT explores first, on batches of one
image; then all start from the same weights.

Testing: ``val_step`` for all 65 classes, everything but classifiers and prompts having the same weights. How long boxes
take to suppress depends on the scores, and would be measured in place of the head. Therefore every contestant computes
its logits, and then passes on those that the last head gave for the same batch: behind the classifiers all work on the
same boxes. Rows are encoded once, before the rounds, as in any test.

On a busy machine the ratio of whole test steps is not sure to the hundredth that is claimed. The part in which they
differ, handing out rows and the classifier, is therefore timed by itself as well, on the features of one batch.
``test_part`` has what it takes beyond the linear classifier, and what the ratio of the steps follows from that. The
processor's caches are warmer there than within a step, so that this ratio may be a little low.

The configs' data is taken from ``data/toy`` in the working directory; without it a small toy world is made elsewhere.
"""

import argparse
import contextlib
import itertools
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from measure import Timing, commit, interleaved, machine, paired_ratio, paired_ratios
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from subpt_dense.apis import load_config
from subpt_dense.datasets import get_split, write_json
from subpt_dense.toyworld.build import build_world

LINEAR = "linear"
HEADS = ("template", "coop", "subpt", "subpt_nfl")
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EXPLORE = 11  # iterations, with a snapshot each: the fewest for the configs' rank of 10
OWN_HOOKS = ("vocabulary", "report", "finite_loss", "identity", "prompt_file")  # which plain mmdet does not have

Results = dict[str, list[Timing]]


@LOOPS.register_module()
class SteppedLoop(IterBasedTrainLoop):
    """A training loop whose iterations are asked for one by one, with ``run_iter``."""

    def run(self) -> nn.Module:
        """Do what comes before the first iteration."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self.runner.model.train()
        return self.runner.model


@contextlib.contextmanager
def toy_world() -> Iterator[None]:
    """Have the configs' relative paths lead to a toy world: the one in ``data/toy``, or a small one of this run."""
    if Path("data/toy/world.json").is_file():
        yield
        return
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        build_world("data/toy", train=64, val=48, train_crops=0, val_crops=0, clip_seeds=(0,))
        yield


def make_config(name: str, work_dir: str) -> Config:
    """The toy config of a head; for :data:`LINEAR` that of the template head, with a plain classifier in its place."""
    options: dict[str, Any] = {
        "train_cfg.type": "mmengine.SteppedLoop",
        "default_hooks.logger.interval": 10**9,
        "default_hooks.checkpoint": None,
        "log_level": "ERROR",
        "experiment_name": name,
    }
    if name.startswith("subpt"):
        options |= {"custom_hooks.0.explore": EXPLORE, "custom_hooks.0.interval": 1}
    path = CONFIGS / f"ovd_toy_{'template' if name == LINEAR else name}.py"
    cfg = load_config(path, options=options, work_dir=f"{work_dir}/{name}")
    if name == LINEAR:
        box_head = cfg.model.roi_head.bbox_head
        cfg.model.type = "mmdet.FasterRCNN"
        box_head.num_classes = len(get_split(cfg.train_dataloader.dataset.split).base)
        del cfg.model.prompt, cfg.model.language, box_head.cls_predictor_cfg
        for hook in OWN_HOOKS:
            del cfg.default_hooks[hook]
    return cfg


def make_runners(heads: Sequence[str], work_dir: str) -> dict[str, Runner]:
    """A runner for the linear classifier, then one for each head, ready for their first iterations."""
    runners = {name: Runner.from_cfg(make_config(name, work_dir)) for name in (LINEAR, *heads)}
    for runner in runners.values():
        runner.train()
    return runners


def share_weights(runners: Mapping[str, Runner]) -> None:
    """Give every model the last head's weights of everything but classifiers and prompts."""
    weights = list(runners.values())[-1].model.state_dict()
    shared = {key: value for key, value in weights.items() if not _is_own(key)}
    for name, runner in runners.items():
        missing, unexpected = runner.model.load_state_dict(shared, strict=False)
        odd = [*unexpected, *(key for key in missing if not _is_own(key))]
        if odd:
            raise RuntimeError(f"{name} must differ from the others in classifier and prompt alone. Got {odd[:3]}.")


def _is_own(key: str) -> bool:
    return key.startswith("prompt.") or ".fc_cls." in key


def time_training(runners: Mapping[str, Runner], seconds: float, batches: int = 4) -> Results:
    """Whole iterations, SubPT's in its second phase."""
    loader = iter(runners[LINEAR].train_dataloader)
    data = [next(loader) for _ in range(batches)]
    one_image = {key: value[:1] for key, value in data[0].items()}
    for name, runner in runners.items():
        for _ in range(EXPLORE if name.startswith("subpt") else 0):
            runner.train_loop.run_iter(one_image)
    share_weights(runners)
    steps = {name: in_turn(runner.train_loop.run_iter, data) for name, runner in runners.items()}
    return interleaved(steps, rounds=1000, budget=seconds)


def time_testing(runners: Mapping[str, Runner], seconds: float, batches: int = 2) -> tuple[Results, Results]:
    """``val_step`` with the same weights and, behind the classifiers, the same logits; and the part that differs."""
    loader = runners[LINEAR].val_dataloader
    data, names = list(itertools.islice(loader, batches)), loader.dataset.metainfo["classes"]
    share_weights(runners)
    models = {name: runner.model.eval() for name, runner in runners.items()}
    for name, model in models.items():
        if name == LINEAR:
            _widen(model.roi_head.bbox_head, len(names))
        else:
            model.set_vocabulary(names)
    with torch.no_grad():
        features, logits = note_calls(list(models.values())[-1], data)
        parts = interleaved({name: differing_part(model, features[0]) for name, model in models.items()}, rounds=200)
        for model in models.values():
            pass_on(logits, model)
        steps = {name: in_turn(model.val_step, data) for name, model in models.items()}
        return interleaved(steps, rounds=1000, budget=seconds), parts


def _widen(box_head: Any, num_classes: int) -> None:
    """A new linear classifier, for more classes."""
    box_head.fc_cls = nn.Linear(box_head.fc_cls.in_features, num_classes + 1)
    box_head.num_classes = num_classes


def note_calls(model: Any, data: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """What goes into the classifier, and the logits that come out of it, for each batch."""
    calls: list[tuple[Tensor, Tensor]] = []
    classifier = model.roi_head.bbox_head.fc_cls
    handle = classifier.register_forward_hook(lambda _, inputs, output: calls.append((inputs[0], output)))
    for batch in data:
        model.val_step(batch)
    handle.remove()
    return [features for features, _ in calls], [logits for _, logits in calls]


def differing_part(model: Any, features: Tensor) -> Callable[[], object]:
    """What a test step does for the classifier's sake alone."""
    hand_out, classifier = getattr(model, "hand_out_rows", lambda: None), model.roi_head.bbox_head.fc_cls

    def part() -> None:
        hand_out()
        classifier(features)

    return part


def pass_on(logits: Sequence[Tensor], model: Any) -> None:
    """Let the classifier compute its logits as ever, and return the next ones of ``logits`` in their place."""
    turn = itertools.cycle(logits)
    model.roi_head.bbox_head.fc_cls.register_forward_hook(lambda *_: next(turn))


def in_turn(step: Callable[[Any], object], data: Sequence[Any]) -> Callable[[], object]:
    """``step`` on the next batch at every call."""
    turn = itertools.cycle(data)
    return lambda: step(next(turn))


def compare(results: Results) -> dict[str, dict[str, float | None]]:
    """Each head's time over the linear classifier's, and the error of that ratio; None if there is but one round."""
    table: dict[str, dict[str, float | None]] = {}
    linear = results[LINEAR]
    for name, timings in results.items():
        if name == LINEAR:
            continue
        table[name] = {}
        for field in Timing._fields:
            table[name][field] = round(paired_ratio(timings, linear, field), 4)
            table[name][f"{field}_error"] = _error(paired_ratios(timings, linear, field))
    return table


def _error(values: Sequence[float]) -> float | None:
    """Standard error of the median of normal values, from their quartiles: a few outliers do not matter."""
    if len(values) < 2:
        return None
    low, _, high = statistics.quantiles(values, method="inclusive")
    return round(0.93 * (high - low) / len(values) ** 0.5, 4)


def step_ms(results: Results) -> dict[str, dict[str, float]]:
    """Median milliseconds of a step."""
    return {
        name: {
            field: round(1e3 * statistics.median(getattr(timing, field) for timing in timings), 2)
            for field in Timing._fields
        }
        for name, timings in results.items()
    }


def measure(heads: Sequence[str], seconds: float) -> dict[str, Any]:
    """Both stages, about ``seconds`` each; returns what the JSON file holds."""
    torch.set_num_threads(1)
    with toy_world(), tempfile.TemporaryDirectory() as work_dir:
        runners = make_runners(heads, work_dir)
        train = time_training(runners, seconds)
        test, parts = time_testing(runners, seconds)
    results = {"train": train, "test": test}
    return {
        **{stage: compare(found) for stage, found in results.items()},
        "test_part": part_over_step(parts, test),
        "step_ms": {stage: step_ms(found) for stage, found in results.items()},
        "rounds": {stage: len(found[LINEAR]) for stage, found in results.items()},
        "device": machine(),
        "commit": commit(),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print a table for each stage."""
    console = Console()
    for stage in ("train", "test"):
        table = Table(title=f"{stage}: {found['rounds'][stage]} rounds")
        for column in ("classifier", "cpu ms", "wall ms", "cpu / linear", "wall / linear"):
            table.add_column(column, justify="left" if column == "classifier" else "right")
        for name, took in found["step_ms"][stage].items():
            ratios = found[stage].get(name, {})
            shown = [_with_error(ratios[field], ratios[f"{field}_error"]) for field in took if field in ratios]
            table.add_row(name, *(f"{took[field]:.1f}" for field in took), *shown)
        console.print(table)
    for name, part in found["test_part"].items():
        more, ratio = part["extra_cpu_ms"], part["ratio"]
        console.print(f"test, {name}: the part that differs takes {more:.2f} ms more, a ratio of {ratio:.4f}")
    console.print(f"{found['device']}; commit {found['commit']}")


def part_over_step(parts: Results, steps: Results) -> dict[str, dict[str, float]]:
    """What each head's differing part takes beyond the linear classifier's, and the ratio of steps from that alone."""
    table = {}
    step = statistics.median(timing.cpu for timing in steps[LINEAR])
    for name, timings in parts.items():
        pairs = zip(timings, parts[LINEAR], strict=True)
        extra = statistics.median(own.cpu - linear.cpu for own, linear in pairs)
        table[name] = {"extra_cpu_ms": round(1e3 * extra, 3), "ratio": round(1 + extra / step, 4)}
    del table[LINEAR]
    return table


def _with_error(ratio: float, error: float | None) -> str:
    return f"{ratio:.4f}" if error is None else f"{ratio:.4f} ± {error:.4f}"


def main() -> None:
    """Parse, measure, show, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds, for a rough figure")
    parser.add_argument("--seconds", type=float, help="for the rounds of a stage (default: 65, with --quick 7)")
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS, help="(default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE, too")
    args = parser.parse_args()
    if get_device() != "cpu":
        parser.error(f"times are taken on the CPU, but a run would take {get_device()}. Set CUDA_VISIBLE_DEVICES=''.")
    seconds = args.seconds if args.seconds is not None else 7 if args.quick else 65
    found = measure(list(dict.fromkeys(args.heads)), seconds)
    show(found)
    if args.json:
        write_json(args.json, found, indent=1)


if __name__ == "__main__":
    main()

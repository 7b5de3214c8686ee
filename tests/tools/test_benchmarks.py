"""The text benchmark as its user runs it, on a tower of 2 layers, and its measures against cases done by hand."""

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from subpt_dense.text.packed import PackedLinear

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "benchmarks"
NAMES = ("measure", "counting", "contestants", "figures", "report", "text_encoding")
WIDTH, LAYERS = 64, 2


@pytest.fixture(scope="module")
def modules() -> Iterator[SimpleNamespace]:
    """The benchmark's files: a script's own folder is on its path."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    for name in NAMES:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def tower(modules: SimpleNamespace) -> Any:
    return modules.contestants.build_tower(width=WIDTH, layers=LAYERS)


# The script


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """One run: what it printed, and the folder it wrote into."""
    out = tmp_path_factory.mktemp("benchmark")
    flags = ["--quick", "--classes", "65", "--threads", "1", "--width", str(WIDTH), "--layers", str(LAYERS)]
    command = [sys.executable, str(FOLDER / "text_encoding.py"), *flags]
    command += ["--json", str(out / "new" / "a.json"), "--plot", str(out / "a.png")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=out, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(out=out, printed=done.stdout)


def test_json_of_a_run(ran: SimpleNamespace) -> None:
    results = json.loads((ran.out / "new" / "a.json").read_text())
    assert "torch" in results["device"] and results["commit"]
    (case,) = results["cases"]
    assert (case["classes"], case["threads"], case["subset"]) == (65, 1, 4)
    for key in ("cpu_speedup", "wall_speedup"):
        assert {"truncated", "shared_prefix"} <= set(case[key])
    assert case["cpu_speedup"]["shared_prefix"] > 3  # 17 where nobody else computes
    assert case["flop_limit"] > 10
    assert case["cpu_flop_share"] == pytest.approx(case["cpu_speedup_over_sdpa"] / case["flop_limit"])
    saved = case["saved_mib"]
    assert 0 < saved["shared_prefix"] < saved["truncated"] < saved["sdpa"] < saved["reference"]
    assert "chunked" in saved and not case["peak_mib"]
    assert 0 < case["fp64_feature_error"] < 1e-12 and 0 < case["fp64_gradient_error"] < 1e-12
    assert 1e-9 < case["fp32_feature_error"] < 1e-5 and 1e-9 < case["fp32_gradient_error"] < 1e-4
    assert 0 < results["subpt"][0]["keep_ms"] < results["subpt"][0]["fit_ms"]


def test_picture_of_a_run(ran: SimpleNamespace) -> None:
    assert (ran.out / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in ran.out.rglob("*") if path.is_file()) == ["a.json", "a.png"]


def test_print_of_a_run(ran: SimpleNamespace) -> None:
    assert "reference, sdpa, truncated: timed on 4 of 65 classes, scaled" in ran.printed
    assert "fused, checkpointed, chunked: not timed for 65 classes" in ran.printed
    assert "fused, checkpointed: not counted for 65 classes" in ran.printed
    assert "INFO" not in ran.printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--width", "100"], "argument --width: must be a multiple of 64. Got '100'."),
        (["--layers", "0"], "argument --layers: must be a positive integer. Got '0'."),
        (["--threads", "1", "-2"], "argument --threads: must be a positive integer. Got '-2'."),
        (["--classes", "66"], "argument --classes: invalid choice: 66"),
        (["--plot", "a.pdf"], "argument --plot: must end in .png. Got 'a.pdf'."),
    ],
)
def test_flags_are_checked(
    modules: SimpleNamespace,
    flags: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["text_encoding.py", *flags])
    with pytest.raises(SystemExit, match="2"):
        modules.text_encoding.parse_args()
    assert message in capsys.readouterr().err


# The ways


def test_all_ways_compute_the_same(modules: SimpleNamespace, tower: Any) -> None:
    ways = modules.contestants
    names = ("cat", "traffic_light", "hair drier", "cup", "aerosol can (spray can)")
    context = ways.random_context(tower)
    steps = ways.full_length_steps(tower, context, names) | ways.short_steps(tower, context, names, names, chunk=8)
    rows, gradient = steps.pop("reference")()
    assert set(steps) == {"sdpa", "fused", "checkpointed", "truncated", "shared_prefix", "chunked"}
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(5))
    for way, step in steps.items():
        other_rows, other_gradient = step()
        torch.testing.assert_close(other_rows, rows, atol=1e-6, rtol=0, msg=way)
        torch.testing.assert_close(other_gradient, gradient, atol=float(1e-5 * gradient.norm()), rtol=0, msg=way)
    assert not tower.transformer.grad_checkpointing


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_part_holds_the_longest_name(modules: SimpleNamespace, tower: Any, count: int) -> None:
    names = modules.contestants.class_names(65)
    part = modules.contestants.part_of(tower, names, count)
    assert len(set(part)) == count
    assert max(len(tower.token_ids(name)) for name in part) == max(len(tower.token_ids(name)) for name in names)
    assert [name for name in names if name in part] == list(part)
    assert modules.contestants.part_of(tower, names, 65) == modules.contestants.part_of(tower, names, 99) == names


@pytest.mark.parametrize("count", [65, 171, 1203])
def test_vocabularies(modules: SimpleNamespace, count: int) -> None:
    assert len(set(modules.contestants.class_names(count))) == count


def test_unknown_vocabulary(modules: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="must be one of 65, 171, 1203. Got 80"):
        modules.contestants.class_names(80)


def test_tower_has_no_trivial_weight(tower: Any) -> None:
    weights = tower.modules.state_dict()
    assert tower.width == WIDTH and len(tower.transformer.resblocks) == LAYERS
    assert not [name for name, value in weights.items() if ((value == 0) | (value == 1)).any()]


# Operations and memory


def test_operations_of_77_tokens(modules: SimpleNamespace, tower: Any) -> None:
    ways = ("reference", "sdpa", "fused", "checkpointed")
    costs = modules.figures.count_ways(tower, ("cat", "dog"), ways)
    linear = 2 * 77 * 12 * WIDTH**2  # q, k, v, output and MLP, forward
    attention = 2 * 77**2 * WIDTH  # one product of all heads; 2 forward, 5 backward
    project = 2 * WIDTH * tower.embed_dim
    expected = 2 * (LAYERS * (2 * linear + 7 * attention) + 2 * project)  # of two classes
    assert costs["reference"].flops == costs["sdpa"].flops == costs["fused"].flops == expected
    again = LAYERS * (linear * 8 // 12 + 2 * attention)  # a block's last product is needed by nothing in backward
    assert costs["checkpointed"].flops == costs["sdpa"].flops + 2 * again


def test_costs_of_a_vocabulary(modules: SimpleNamespace, tower: Any) -> None:
    ways, figures = modules.contestants, modules.figures
    names = ways.class_names(1203)
    costs = figures.count_ways(tower, names, ways.WAYS)
    found = figures.tell_costs(costs)
    for key in ("flops", "saved_mib", "peak_mib"):
        assert tuple(found[key]) == ways.WAYS
    two = figures.count_ways(tower, names[:2], ("reference",))
    assert costs["reference"] == pytest.approx(two["reference"].times(1203 / 2), rel=1e-3)
    assert found["flop_limit"] == found["flops"]["sdpa"] / found["flops"]["shared_prefix"]
    assert found["flops"]["chunked"] > 1.2 * found["flops"]["shared_prefix"]
    saved, peak = found["saved_mib"], found["peak_mib"]
    assert saved["chunked"] < saved["shared_prefix"] / 4 < saved["truncated"] / 4 < saved["reference"] / 4
    assert all(peak[way] > saved[way] for way in ways.WAYS)
    assert peak["chunked"] < peak["shared_prefix"] / 2


def test_costs_grow_evenly_with_the_layers(modules: SimpleNamespace) -> None:
    ways, figures = modules.contestants, modules.figures
    costs = [
        figures.count_ways(ways.build_tower(width=WIDTH, layers=layers), ways.class_names(65), ways.WAYS, peaks=False)
        for layers in (2, 3, 5)
    ]
    extended = figures.extend(costs[0], costs[1], 2)
    assert all(extended[way].saved == costs[2][way].saved for way in ways.WAYS)
    assert all(extended[way].flops == costs[2][way].flops for way in ways.WAYS if way != "chunked")


def test_chunks_are_chunks(modules: SimpleNamespace, tower: Any) -> None:
    names, context = modules.contestants.class_names(65), modules.contestants.random_context(tower)
    first, last = modules.contestants.chunks(tower, context, names, chunk=24)
    for encode in (first, last):
        assert 12 // 4 <= len(encode(context)) <= 24 // 3  # suffixes have 3 or 4 tokens
    assert modules.contestants.chunks(tower, context, names) == [], "one holds all"


def leaf(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0)).requires_grad_()


X, W = leaf(100, 50), torch.ones(50, 30)  # 20,000 and 6,000 bytes
Q = leaf(2, 3, 77, 16)


def backward(output: torch.Tensor, *leaves: torch.Tensor) -> None:
    torch.autograd.grad(output, leaves)


def squares() -> torch.Tensor:
    return X.exp().exp().sum()


COUNTED = [
    ("a product", lambda: X @ W, 300_000, 0),
    ("a product, backward", lambda: backward((X @ W).sum(), X), 600_000, 0),  # X has no weight gradient to serve
    ("what exp keeps", lambda: (X @ W).exp().sum(), 300_000, 12_000),
    ("a storage kept twice", lambda: (y := X.exp()) @ y.T, 1_000_000, 20_000),
    ("a view keeps its storage", lambda: X.exp()[:1] * 1.5 * X[:1], 0, 20_000 + 200),
    ("attention", lambda: scaled_dot_product_attention(Q, Q, Q, is_causal=True), 2 * 2 * 6 * 77**2 * 16, None),
    (
        "attention, backward",
        lambda: backward(scaled_dot_product_attention(Q, Q, Q, is_causal=True).sum(), Q),
        7 * 2 * 6 * 77**2 * 16,
        None,
    ),
    ("added in place", lambda: torch.zeros(2, 3, 5).baddbmm_(torch.ones(2, 3, 4), torch.ones(2, 4, 5)), 240, 0),
    ("a checkpoint", lambda: checkpoint(lambda x: x.exp().exp(), X, use_reentrant=False).sum(), 0, 0),
]
if torch.backends.mkl.is_available():
    COUNTED.append(("a packed layer", lambda: backward(PackedLinear(W.t(), W[0], 100)(X).sum(), X), 600_000, 0))


@pytest.mark.parametrize(("call", "flops", "saved"), [case[1:] for case in COUNTED], ids=[case[0] for case in COUNTED])
def test_counts(modules: SimpleNamespace, call: Callable[[], object], flops: int, saved: int | None) -> None:
    found = modules.counting.count(call, modules.counting.storages_alive())
    assert found.flops == flops
    assert saved is None or found.saved == saved


def chain() -> None:
    """Four tensors of 20,000 bytes one after the other, of which the first was there before."""
    x = X.detach()
    for _ in range(3):
        x = x.exp()


PEAKS = [
    ("nothing", lambda: None, 0),
    ("both kept", squares, 20_000 + 20_000 + 4),
    ("two at a time", chain, 20_000 + 20_000),
    ("backward", lambda: backward(squares(), X), 20_000 + 20_000 + 4 + 4 + 20_000),
    ("what a checkpoint computes again", lambda: backward(checkpoint(squares, use_reentrant=False), X), None),
]


@pytest.mark.parametrize(("call", "peak"), [case[1:] for case in PEAKS], ids=[case[0] for case in PEAKS])
def test_peaks(modules: SimpleNamespace, call: Callable[[], object], peak: int | None) -> None:
    found = modules.counting.peak_bytes(call)
    assert found == peak if peak is not None else found >= 60_000


# Times


def test_turns_rotate_and_warm_up(modules: SimpleNamespace) -> None:
    order: list[str] = []
    contestants = {name: lambda name=name: order.append(name) for name in "abc"}
    found = modules.measure.interleaved(contestants, rounds=3, warmup=1)
    assert "".join(order) == "abcbcacababc"
    assert {name: len(timings) for name, timings in found.items()} == {"a": 3, "b": 3, "c": 3}


def test_budget_ends_the_rounds(modules: SimpleNamespace) -> None:
    calls = []
    found = modules.measure.interleaved({"a": lambda: calls.append(time.sleep(0.03))}, rounds=100, warmup=1, budget=0.1)
    assert 1 <= len(found["a"]) == len(calls) - 1 <= 4
    assert len(modules.measure.interleaved({"a": lambda: None}, rounds=9, budget=0.0)["a"]) == 1


@pytest.mark.parametrize("arguments", [({}, 1), ({"a": print}, 0), ({"a": print}, 1, -1)])
def test_rounds_are_checked(modules: SimpleNamespace, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match="at least one contestant, `rounds` >= 1 and `warmup` >= 0"):
        modules.measure.interleaved(*arguments)


def test_cpu_and_wall_time_are_told_apart(modules: SimpleNamespace) -> None:
    asleep = modules.measure.timed(lambda: time.sleep(0.2))
    assert asleep.wall >= 0.2 > 0.1 > asleep.cpu


def test_ratio_is_the_median_of_rounds(modules: SimpleNamespace) -> None:
    timing = modules.measure.Timing
    slow = [timing(cpu=4, wall=10), timing(cpu=30, wall=80), timing(cpu=9, wall=12)]
    fast = [timing(cpu=2, wall=1), timing(cpu=10, wall=4), timing(cpu=9, wall=4)]
    assert modules.measure.paired_ratios(slow, fast, "cpu") == [2, 3, 1]
    assert modules.measure.paired_ratio(slow, fast, "cpu") == 2
    assert modules.measure.paired_ratio(slow, fast, "wall") == 10
    with pytest.raises(ValueError, match="`field` must be 'cpu' or 'wall'. Got 'gpu'"):
        modules.measure.paired_ratio(slow, fast, "gpu")
    for few in ([], fast[:2]):
        with pytest.raises(ValueError, match=f"Got 3 and {len(few)}"):
            modules.measure.paired_ratio(slow, few, "cpu")


def test_short_calls_settle(modules: SimpleNamespace) -> None:
    pauses = iter([0.05, *[0.01] * 99])
    timing = modules.measure.timed(lambda: time.sleep(next(pauses)), settle=0.2)
    assert 0.01 <= timing.wall < 0.03, "the first call is not counted, the mean of the others is"
    assert len(list(pauses)) == 95
    assert modules.measure.timed(lambda: time.sleep(0.05), settle=0.02).wall >= 0.05


class Sleep:
    """A step that takes ``seconds`` for some of the classes."""

    def __init__(self, classes: int, seconds: float) -> None:
        self.direction = torch.zeros(classes, 1)
        self.seconds = seconds

    def __call__(self) -> None:
        time.sleep(self.seconds)


def test_times_of_parts_are_scaled(modules: SimpleNamespace) -> None:
    full_length = {"reference": Sleep(2, 0.2), "sdpa": Sleep(2, 0.1), "fused": Sleep(2, 0.05)}
    short = {8: {"truncated": Sleep(4, 0.1), "shared_prefix": Sleep(8, 0.05), "chunked": Sleep(8, 0.1)}}
    (case,) = modules.figures.time_ways(full_length, short, rounds=2, budget=60)
    assert (case["classes"], case["subset"], case["rounds"]) == (8, 2, 2)
    expected = {"sdpa": 2, "fused": 4, "truncated": 4, "shared_prefix": 16, "chunked": 8}
    assert case["wall_speedup"] == pytest.approx(expected, rel=0.3)
    assert case["wall_ms"]["reference"] == pytest.approx(800, rel=0.3)
    assert case["wall_speedup_over_sdpa"] == pytest.approx(8, rel=0.3)
    assert case["wall_speedup_over_fused"] == pytest.approx(4, rel=0.3)
    assert case["wall_chunked_over_whole"] == pytest.approx(2, rel=0.3)
    low, high = case["wall_range"]["shared_prefix"]
    assert low <= case["wall_speedup"]["shared_prefix"] <= high


def test_machine_names_torch_and_threads(modules: SimpleNamespace) -> None:
    assert f"torch {torch.__version__} with {torch.get_num_threads()} threads" in modules.measure.machine()


def test_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    file = tmp_path / "measure.py"
    file.write_bytes((FOLDER / "measure.py").read_bytes())
    measure = load(file)
    assert measure.commit() == "unknown"

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    git("add", "measure.py")
    git("commit", "--message", "one")
    head = git("rev-parse", "--short", "HEAD")
    (tmp_path / ".git" / "info" / "exclude").write_text("__pycache__\n")
    assert measure.commit() == head
    (tmp_path / "other.py").touch()
    assert measure.commit() == f"{head}-dirty"


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("measure_elsewhere", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Tables


def test_table_is_aligned(modules: SimpleNamespace) -> None:
    table = modules.report.table(("way", "a", "bb"), [("one", 0.0123456, 12345.6), ("three", 1.5, 2e-12)])
    assert table.splitlines() == [
        "way         a       bb",
        "-----  ------  -------",
        "one    0.0123   12,346",
        "three    1.50  2.0e-12",
    ]

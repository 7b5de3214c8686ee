"""The extraction tool from the command line: one process, two, and one that is killed; and its benchmark."""

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from subpt_dense.datasets import RegionCache
from subpt_dense.toyworld.build import build_world
from tests.datasets.region_files import files_of

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "extract_regions.py"
DATA = ["--annotations", "data/toy/annotations/instances_train_seen.json", "--images", "data/toy/train"]
CLIP = ["--model", "subpt-toy", "--pretrained", "data/toy/clip_seed0.pt", "--device", "cpu", "--workers", "0"]
TRUTH = [*DATA, *CLIP, "--ground-truth", "--shard-regions", "8"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/toy``: twelve scenes."""
    root = tmp_path_factory.mktemp("extract")
    build_world(root / "data" / "toy", train=12, val=1, train_crops=0, val_crops=0, clip_seeds=(0,))
    return root


@pytest.fixture
def tool(world: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(world)
    return load(TOOL)


def load(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{file.stem}_tool", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(world: Path, *command: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=world, env=environment, **pipes)


def test_ground_truth(tool: ModuleType, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool.main([*TRUTH, "--out", "one"])
    content = json.loads((world / DATA[1]).read_text())
    cache = RegionCache(world / "one")
    assert list(cache.image_ids) == [image["id"] for image in content["images"]]
    assert cache.manifest["regions"] == len(content["annotations"]) and cache.embed_dim == 64
    assert cache.manifest["proposals"]["kind"] == "ground_truth" and len(cache.manifest["shards"]) > 1
    assert "images, " in capsys.readouterr().err
    tool.main(["--verify", "one"])
    assert f"{len(content['annotations'])} regions of 12 images, whole" in capsys.readouterr().out


def test_the_embeddings_are_of_the_objects(tool: ModuleType, world: Path) -> None:
    """The tower that made them tells the classes of the boxes from their names."""
    from subpt_dense.prompts import TemplatePrompt

    tool.main([*TRUTH, "--out", "words"])
    cache, content = RegionCache(world / "words"), json.loads((world / DATA[1]).read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    order = sorted(set(names.values()))
    text = {"model": "subpt-toy", "pretrained": str(world / CLIP[3])}
    rows = TemplatePrompt(text=text, templates="toy", vocabulary=order).eval()()
    right = 0
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        (found,) = cache.find(annotation["image_id"], [[x, y, x + width, y + height]])
        best = int((rows @ torch.from_numpy(found.astype(np.float32))).argmax())
        right += order[best] == names[annotation["category_id"]]
    assert right / len(content["annotations"]) > 0.5, "chance is 1/48"


def test_proposals(tool: ModuleType, world: Path) -> None:
    images = json.loads((world / DATA[1]).read_text())["images"]
    rows = [{"image_id": i["id"], "bbox": [at, 5, 30, 40], "score": at / 9} for i in images for at in range(9)]
    (world / "p.json").write_text(json.dumps(rows))
    options = ["--max-per-image", "3", "--scales", "1", "--batch-size", "2"]
    tool.main([*DATA, *CLIP, "--proposals", "p.json", "--out", "proposed", *options])
    cache = RegionCache(world / "proposed")
    assert cache.boxes(images[0]["id"])[:, 0].tolist() == [8, 7, 6]
    assert cache.manifest["scales"] == [1.0] and cache.manifest["batch_size"] == 2
    with pytest.raises(SystemExit, match="error: The region cache .* must be of the same job"):
        tool.main([*DATA, *CLIP, "--proposals", "p.json", "--out", "proposed"])


def test_a_detectors_proposals(tool: ModuleType, world: Path) -> None:
    from subpt_dense.apis import load_config
    from subpt_dense.registry import MODELS

    config = ROOT / "configs" / "ovd_toy_template.py"
    torch.save(MODELS.build(load_config(config, pretty=False).model).state_dict(), world / "det.pth")
    tool.main([*DATA, *CLIP, "--rpn", str(config), "det.pth", "--out", "found", "--max-per-image", "4"])
    cache = RegionCache(world / "found")
    assert cache.manifest["proposals"]["kind"] == "rpn" and cache.manifest["regions"] == 12 * 4
    assert cache.manifest["proposals"]["file"] == "../found.proposals.json"
    assert cache.manifest["proposals"]["made_by"]["checkpoint"] == "det.pth"
    assert len(json.loads((world / "found.proposals.json").read_text())) == 12 * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments --proposals --ground-truth --rpn --verify is required"),
        (["--ground-truth", "--out", "x"], "--annotations, --images must be given"),
        (["--ground-truth", "--proposals", "p.json"], "not allowed with argument"),
    ],
)
def test_refused_flags(
    arguments: list[str], message: str, tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err


def test_errors_are_one_line(tool: ModuleType) -> None:
    with pytest.raises(SystemExit, match="error: The region cache .*nowhere does not exist"):
        tool.main(["--verify", "nowhere"])
    with pytest.raises(SystemExit, match="error: The annotation or proposal file nowhere.json does not exist"):
        tool.main([*TRUTH, "--out", "x", "--annotations", "nowhere.json"])


@pytest.mark.dist
def test_two_processes_write_what_one_does(tool: ModuleType, world: Path) -> None:
    tool.main([*TRUTH, "--out", "alone"])
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = start(world, *launch, str(TOOL), *TRUTH, "--out", "both", "--launcher", "pytorch")
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    assert files_of(world / "both") == files_of(world / "alone")


@pytest.mark.slow
def test_killed_ten_times(tool: ModuleType, world: Path) -> None:
    tool.main([*TRUTH, "--out", "whole"])
    rng, killed, command = random.Random(0), 0, [str(TOOL), *TRUTH, "--out", "killed"]
    while killed < 10:
        process = start(world, *command)
        while process.poll() is None and not (world / "killed").exists():
            time.sleep(0.002)  # until it has begun: loading takes longer than the work
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        process.communicate()
        killed += 1
        if (world / "killed" / "manifest.json").exists():  # it was done: from the start again
            assert files_of(world / "killed") == files_of(world / "whole")
            for path in (world / "killed").iterdir():
                path.unlink()
            (world / "killed").rmdir()
    tool.main([*TRUTH, "--out", "killed"])
    assert files_of(world / "killed") == files_of(world / "whole")


BENCHMARKS = ROOT / "tools" / "benchmarks"


def test_benchmark_ratios_of_known_times(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = load(BENCHMARKS / "region_extraction.py")

    def burn(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    contestants = {"ours": lambda: burn(0.02), "pillow": lambda: burn(0.08)}
    found = module.compare(contestants, regions=10, rounds=3)
    assert found["regions_per_second"]["ours"]["cpu"] == pytest.approx(500, rel=0.1)
    assert found["speedup"]["pillow"]["cpu"] == pytest.approx(4, rel=0.1)
    low, high = found["speedup"]["pillow"]["cpu_range"]
    assert low <= found["speedup"]["pillow"]["cpu"] <= high
    facts = {"device": "d", "place": "cpu", "commit": "c", "rounds": 3, "clip": "toy"}
    module.show({**facts, "crops": found, "extraction": found})
    text = capsys.readouterr().out
    assert "limit 5 over `pillow`: NOT kept" in text and "limit 3 over `pillow`: kept" in text
    sys.modules.pop("measure", None)


@pytest.mark.slow
def test_benchmark_runs(tmp_path: Path) -> None:
    done = start(tmp_path, str(BENCHMARKS / "region_extraction.py"), "--quick", "--json", "found.json")
    output, _ = done.communicate(timeout=300)
    assert done.returncode == 0, output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["crops"]["speedup"]["pillow"]["cpu"] > 1 and found["extraction"]["speedup"]["pillow"]["cpu"] > 0
    assert set(found["extraction"]["regions_per_second"]) == {"ours", "pillow", "pillow, encoded together"}

"""Two gloo processes, started as users start them, take the steps of one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from subpt_dense.prompts.prompt_file import load_prompt

ROOT = Path(__file__).parents[2]
CONFIG = """
_base_ = "{root}/configs/_base_/runtime_cls.py"
train_cfg = dict(type="subpt_dense.RewindingTrainLoop", max_epochs=3, val_interval=3)
val_cfg = dict(type="mmengine.ValLoop")
test_cfg = dict(type="mmengine.TestLoop")
optim_wrapper = dict(type="mmengine.OptimWrapper", optimizer=dict(type="SGD", lr=0.02, momentum=0.9))
custom_hooks = [
    dict(type="subpt_dense.SubspaceHook", rank=1, explore=2, by_epoch=True, rewind="run", start_from="init"),
]
model = dict(
    type="subpt_dense.PromptedClassifier",
    prompt=dict(type="subpt_dense.ContextPrompt", length=4),
    language=dict(text=dict(model="subpt-toy", pretrained={clip!r})),
)
data = {data!r}
loader = dict(num_workers=0, batch_size={batch}, collate_fn=dict(type="default_collate"))
train_dataloader = dict(**loader, sampler=dict(type="mmengine.DefaultSampler", shuffle=False), dataset=data["train"])
val_dataloader = dict(**loader, sampler=dict(type="mmengine.DefaultSampler", shuffle=False), dataset=data["test"])
test_dataloader = val_dataloader
val_evaluator = dict(type="subpt_dense.GroupAccuracy", protocol="pictures-2/1")
test_evaluator = val_evaluator
"""


def train(folder: Path, data: dict[str, Any], clip: str, processes: int) -> torch.Tensor:
    folder.mkdir()
    config = folder / "config.py"
    config.write_text(CONFIG.format(root=ROOT, data=data, clip=clip, batch=4 // processes))
    command = [str(ROOT / "tools" / "train.py"), str(config), "--work-dir", str(folder / "run")]
    if processes > 1:
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        command = [*launch, *command, "--launcher", "pytorch"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    scalars = "".join(path.read_text() for path in (folder / "run").glob("*/vis_data/scalars.json"))
    assert any("cls/harmonic" in json.loads(line) for line in scalars.splitlines())
    return load_prompt(folder / "run" / "prompt.safetensors").parameters["context"]


@pytest.mark.dist
def test_two_processes_take_the_steps_of_one(tmp_path: Path, image_set: Any) -> None:
    from subpt_dense.toyworld import write_checkpoint

    clip = str(write_checkpoint(0, tmp_path))
    data = {part: image_set(part, group) for part, group in (("train", "base"), ("test", "all"))}
    for each in data.values():
        each["pipeline"][1]["size"] = 64  # the toy CLIP's
    one, two = (train(tmp_path / str(n), data, clip, n) for n in (1, 2))
    assert one.norm() > 0.01
    assert (one - two).norm() <= 1e-5 * one.norm()

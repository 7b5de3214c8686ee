"""Exported rows: those of the head, in three formats that load again; whatever is missing or does not fit is named."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from subpt_dense.datasets import file_sha256, get_split
from subpt_dense.hooks import PromptIdentityHook
from subpt_dense.prompts import ConditionalPrompt, ContextPrompt, RowsPrompt, load_rows, save_prompt, save_rows
from tests.hooks.prompt_run import Host, NamedData, make_runner

FILE = Path(__file__).parents[2] / "tools" / "export_rows.py"
NAMES = ("dög", "traffic_light", "cat  food")


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("export_rows", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def text(tiny_clip: tuple[str, str]) -> dict[str, str]:
    return {"model": tiny_clip[0], "pretrained": tiny_clip[1]}


@pytest.fixture
def head(text: dict[str, str]) -> ContextPrompt:
    torch.manual_seed(0)
    head = ContextPrompt(text, length=2, init_std=0.3, vocabulary=("horse", "sheep"))
    head.context.data.add_(0.1)
    return head


@pytest.fixture
def folder(tmp_path: Path, head: ContextPrompt, text: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a prompt file, names, and a config."""
    monkeypatch.chdir(tmp_path)
    save_prompt("prompt.safetensors", head)
    Path("names.txt").write_text("# three\n" + "\n".join(NAMES) + "\n", encoding="utf-8")
    prompt = {"type": "subpt_dense.ContextPrompt", "length": 2}
    Path("config.py").write_text(f"model = dict(prompt={prompt}, language=dict(text={text}))\n")
    return tmp_path


def rows_of(head: ContextPrompt, names: tuple[str, ...]) -> torch.Tensor:
    head.eval().vocabulary = names
    return head()


def from_file(text: dict[str, str], out: str, *more: str) -> list[str]:
    source = ["--prompt", "prompt.safetensors", "--text-pretrained", text["pretrained"]]
    return [*source, "--names", "names.txt", "--out", out, *more]


@pytest.mark.parametrize("suffix", [".npy", ".pt"])
def test_arrays_with_names_beside_them(
    tool: ModuleType, folder: Path, head: ContextPrompt, text: dict[str, str], suffix: str, capsys: Any
) -> None:
    out = f"export/rows{suffix}"
    tool.main(from_file(text, out))
    *_, line = capsys.readouterr().out.splitlines()
    assert line == (
        f"{out}: rows [3, 24] of LearnedPrompt on {text['model']} ({Path(text['pretrained']).name}), "
        f"sha256 {file_sha256(out)}"
    )
    wanted = rows_of(head, NAMES)
    found = np.load(out) if suffix == ".npy" else torch.load(out, weights_only=True).numpy()
    assert found.dtype == np.float32 and np.array_equal(found, wanted.numpy())
    assert Path("export/rows.names.txt").read_text(encoding="utf-8") == "dög\ntraffic_light\ncat food\n"
    again = RowsPrompt(out, names="export/rows.names.txt", backbone=text["model"], vocabulary=NAMES[::-1])
    torch.testing.assert_close(again(), wanted.flip(0), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="`names` and `backbone` of RowsPrompt must be given"):
        RowsPrompt(out)
    assert sorted(path.name for path in Path("export").iterdir()) == ["rows.names.txt", f"rows{suffix}"]


def test_a_rows_file(tool: ModuleType, folder: Path, head: ContextPrompt, text: dict[str, str]) -> None:
    tool.main(from_file(text, "rows.safetensors"))
    loaded = load_rows("rows.safetensors")
    assert torch.equal(loaded.rows, rows_of(head, NAMES)) and loaded.names == NAMES
    assert loaded.metadata["weights_hash"] == head.key.weights_hash
    assert loaded.metadata["prompt"] == "LearnedPrompt of prompt.safetensors"
    assert not Path("rows.names.txt").exists()


@pytest.mark.parametrize("split", ["coco_ovd", "split.json"])
def test_names_of_a_split(
    tool: ModuleType, folder: Path, text: dict[str, str], split: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("split.json").write_text(json.dumps({"name": "own", "base": ["cat", "dog"], "novel": ["wolf"]}))
    names = ["--names", split]
    tool.main([*from_file(text, "rows.safetensors"), *names])
    assert load_rows("rows.safetensors").names == get_split(split).all


def test_the_head_of_a_config_and_a_checkpoint(
    tool: ModuleType, folder: Path, head: ContextPrompt, text: dict[str, str]
) -> None:
    """A checkpoint of a real run, whose head has moved."""
    data = NamedData(("horse", "sheep"))
    runner, _ = make_runner(folder, PromptIdentityHook(), Host(head), train=data, iters=2, save_every=2)
    runner.train()
    checkpoint = f"{runner.work_dir}/iter_2.pth"
    config = ["--config", "config.py", "--checkpoint", checkpoint, "--names", "names.txt", "--out", "rows.npy"]
    with pytest.raises(SystemExit, match=r"init: checkpoint 'N\(0, 0.3\^2\)', config 'N\(0, 0.02\^2\)'"):
        tool.main(config)
    tool.main([*config, "--cfg-options", "model.prompt.init_std=0.3"])
    assert head.displacement() > 0.1
    assert np.array_equal(np.load("rows.npy"), rows_of(head, NAMES).numpy())


def test_a_config_that_learns_nothing(tool: ModuleType, folder: Path, text: dict[str, str]) -> None:
    options = ["--cfg-options", "model.prompt._delete_=True", "model.prompt.type=subpt_dense.TemplatePrompt"]
    tool.main(["--config", "config.py", "--names", "names.txt", "--out", "rows.safetensors", *options])
    assert load_rows("rows.safetensors").metadata["prompt"] == "TemplatePrompt of config.py"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--out": "rows.csv"}, r"`--out` must end in .npy, .pt, .safetensors. Got 'rows.csv'\."),
        ({"--names": "none.txt"}, "none.txt, which does not exist"),
        ({"--names": "voc"}, "`split` must be one of 'coco_ovd'.* Got 'voc'"),
        ({"--prompt": "none.safetensors"}, "prompt file 'none.safetensors' does not exist"),
        ({"--prompt": "rows.safetensors"}, "is not a prompt file"),
        ({"--prompt": "damaged.safetensors"}, "damaged.safetensors is damaged"),
        (
            {"--text-pretrained": None},
            r"`--text-pretrained` must say where the weights of '.*' lie .*a file, 'tiny-clip",
        ),
        ({"--text-pretrained": "none.pt"}, "'none.pt', which is neither"),
        ({"--prompt": None, "--config": "none.py"}, "must be an existing file.* Got 'none.py'"),
        ({"--prompt": None, "--config": "empty.py"}, "`--config` must have a prompt head, `model.prompt`"),
        ({"--prompt": None, "--config": "no_text.py"}, "`--text-pretrained` needs `model.language.text`"),
        ({"--prompt": None, "--config": "config.py"}, "`--checkpoint` must be given for config.py: its ContextPrompt"),
        ({"--prompt": None, "--config": "config.py", "--checkpoint": "none.pth"}, "existing file. Got 'none.pth'"),
        ({"--prompt": None, "--config": "config.py", "--checkpoint": "names.txt"}, "names.txt cannot be read as a"),
        ({"--prompt": None, "--config": "config.py", "--checkpoint": "no_state.pth"}, "it has no `state_dict`"),
        ({"--prompt": None, "--config": "config.py", "--checkpoint": "no_head.pth"}, "which prompt head wrote it"),
        ({"--prompt": "conditional.safetensors"}, "must come from ContextPrompt.* comes from ConditionalPrompt"),
    ],
)
def test_what_is_refused(
    tool: ModuleType, folder: Path, text: dict[str, str], changes: dict[str, str | None], message: str
) -> None:
    save_rows("rows.safetensors", torch.eye(2), ("a", "b"), backbone="x", weights="y", prompt="z")
    save_prompt("conditional.safetensors", ConditionalPrompt(text, length=2, vocabulary=("a",)))
    data = bytearray(Path("prompt.safetensors").read_bytes())
    data[-1] ^= 1
    Path("damaged.safetensors").write_bytes(data)
    Path("empty.py").write_text("model = dict()\n")
    Path("no_text.py").write_text("model = dict(prompt=dict(type='subpt_dense.TemplatePrompt'))\n")
    torch.save({}, "no_state.pth")
    torch.save({"state_dict": {}}, "no_head.pth")
    flags: dict[str, str | None] = {
        "--prompt": "prompt.safetensors",
        "--text-pretrained": text["pretrained"],
        "--names": "names.txt",
        "--out": "written.npy",
        **changes,
    }
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        tool.main([part for flag, value in flags.items() if value is not None for part in (flag, value)])
    assert not list(folder.glob("written*"))


def test_rows_that_depend_on_the_image(tool: ModuleType, folder: Path, text: dict[str, str]) -> None:
    conditional = ConditionalPrompt(text, length=2)
    state = {f"prompt.{key}": value for key, value in conditional.state_dict().items()}
    torch.save({"state_dict": state, "prompt_identity": conditional.identity()}, "cocoop.pth")
    options = ["--cfg-options", "model.prompt.type=subpt_dense.ConditionalPrompt"]
    config = ["--config", "config.py", "--checkpoint", "cocoop.pth", "--names", "names.txt", "--out", "rows.npy"]
    with pytest.raises(SystemExit, match="must not depend on the image. Those of ConditionalPrompt do"):
        tool.main([*config, *options])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--names", "names.txt", "--out", "rows.npy"], "one of the arguments --prompt --config is required"),
        (["--prompt", "a", "--config", "b", "--names", "c", "--out", "d"], "not allowed with argument"),
        (
            ["--prompt", "a", "--checkpoint", "b", "--names", "c", "--out", "d"],
            "--checkpoint and --cfg-options go with",
        ),
    ],
)
def test_flags_that_contradict_each_other(
    tool: ModuleType, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        tool.main(arguments)
    assert message in capsys.readouterr().err

"""The wheel carries configs and tools below the package, and nothing else; an editable install carries nothing."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from setuptools import Distribution

SETUP = Path(__file__).parent.parent / "setup.py"


@pytest.fixture
def setup_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py, looking at a small project in ``tmp_path``."""
    for name in (
        "subpt_dense/__init__.py",
        "configs/_base_/runtime.py",
        "configs/a.py",
        "configs/__pycache__/a.pyc",
        "tools/train.py",
        "tests/test_a.py",
        "data/big.bin",
        "model-index.yml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    spec = importlib.util.spec_from_file_location("project_setup", SETUP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return module


def build(module: ModuleType, *, editable: bool = False) -> list[str]:
    """Files of the built package, relative to the build folder."""
    command = module.BuildWithMim(Distribution({"packages": ["subpt_dense"], "script_name": "setup.py"}))
    command.build_lib = "build/lib"
    command.editable_mode = editable
    command.ensure_finalized()
    command.run()
    return sorted(path.relative_to("build/lib").as_posix() for path in Path("build/lib").rglob("*") if path.is_file())


MIRROR = [
    "subpt_dense/.mim/configs/_base_/runtime.py",
    "subpt_dense/.mim/configs/a.py",
    "subpt_dense/.mim/model-index.yml",
    "subpt_dense/.mim/tools/train.py",
]


def test_wheel_has_the_mirror_and_no_more(setup_module: ModuleType) -> None:
    assert build(setup_module) == [*MIRROR, "subpt_dense/__init__.py"]
    assert Path("build/lib", MIRROR[0]).read_text() == "configs/_base_/runtime.py"


def test_a_removed_config_leaves_the_next_wheel(setup_module: ModuleType) -> None:
    build(setup_module)
    Path("configs/a.py").unlink()
    assert "subpt_dense/.mim/configs/a.py" not in build(setup_module)


def test_editable_install_has_no_mirror(setup_module: ModuleType) -> None:
    assert not any(".mim" in name for name in build(setup_module, editable=True))
    assert not Path("subpt_dense/.mim").exists()


def test_source_distribution_can_build_the_same_wheel(setup_module: ModuleType) -> None:
    command = setup_module.BuildWithMim(Distribution({"packages": ["subpt_dense"], "script_name": "setup.py"}))
    command.ensure_finalized()
    sources = {Path(name).as_posix() for name in command.get_source_files()}
    assert sources == {"subpt_dense/__init__.py", *(name.removeprefix("subpt_dense/.mim/") for name in MIRROR)}

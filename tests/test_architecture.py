"""The walls between the packages, read from the source of every file, and a check that the reader itself can fail."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "subpt_dense"

#: A unit (package or module below the root) imports units of its own level or lower. "" is the root's own __init__.
LEVELS = {
    "": 0,
    "registry": 0,
    "compat": 0,
    "subspace": 0,
    "text": 1,
    "vision": 1,
    "prompts": 2,
    "losses": 2,
    "heads": 2,
    "datasets": 2,
    "evaluation": 2,
    "hooks": 3,
    "classification": 3,
    "detection": 3,
    "segmentation": 3,
    "toyworld": 3,
    "apis": 3,
    "cli": 3,
}
#: Levels whose units stand side by side, and who may use its neighbours all the same.
SEPARATE_LEVELS = {0, 3}
MAY_USE_NEIGHBOURS = {"apis", "cli", "toyworld"}
COMMON = {"", "registry"}
#: Who may import a host framework, or the library the hosts share.
HOSTS = {
    "mmdet": {"detection"},
    "mmseg": {"segmentation"},
    "mmcv": {"classification", "detection", "segmentation"},
    "mmpretrain": set(),
}
#: Units that stay with these third-party packages.
ONLY = {"subspace": {"torch"}, "compat": {"mmengine", "numpy", "torch", "torchvision"}}
#: Calls that write pickles, or run what one says; naming the exceptions of these modules is fine.
PICKLES = {f"{m}.{f}" for m in ("pickle", "cloudpickle", "dill", "joblib") for f in ("load", "loads", "dump", "dumps")}
MAX_LINES = 400


def imported_modules(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import, lazy and constant dynamic ones included; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{prefix}.{alias.name}") for alias in node.names)
        elif (
            isinstance(node, ast.Call) and called(node).split(".")[-1] in ("import_module", "__import__") and node.args
        ):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield node.lineno, name.value


def called(node: ast.Call) -> str:
    """Dotted name of what is called; "" when it has none."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def unit_of(path: str) -> str:
    """Unit of a file `subpt_dense/<unit>/...`, `subpt_dense/<unit>.py` or `subpt_dense/__init__.py`."""
    name = Path(path).parts[1].removesuffix(".py")
    return "" if name == "__init__" else name


def wall_problem(unit: str, module: str) -> str | None:
    """Why ``unit`` of the package must not import ``module``, or None."""
    top, *rest = module.split(".")
    if top == "":
        return "is relative: write it from the package's root"
    if top in HOSTS and unit not in HOSTS[top]:
        return f"is a host's: only {', '.join(sorted(HOSTS[top])) or 'nobody'} may"
    if top != PACKAGE:
        if unit in ONLY and top not in ONLY[unit] | set(sys.stdlib_module_names):
            return f"is third-party: {unit} stays with {', '.join(sorted(ONLY[unit]))}"
        return None
    other = rest[0] if rest and rest[0] in LEVELS else ""
    if other in (unit, ""):
        return None
    if unit == "":
        return None if other == "compat" else "is not for the root: it imports compat alone"
    if LEVELS[other] > LEVELS[unit]:
        return f"climbs: {unit} is level {LEVELS[unit]}, {other} level {LEVELS[other]}"
    separate = LEVELS[other] == LEVELS[unit] and LEVELS[unit] in SEPARATE_LEVELS
    if separate and other not in COMMON and unit not in MAY_USE_NEIGHBOURS:
        return f"is a neighbour's on level {LEVELS[unit]}"
    if other == "registry" and LEVELS[unit] == 0:
        return f"is not for {unit}, which stands alone"
    return None


def call_problem(path: str, node: ast.Call) -> str | None:
    if any(k.arg == "weights_only" and isinstance(k.value, ast.Constant) and not k.value.value for k in node.keywords):
        return "weights_only=False runs what a file says: add the types to compat/checkpoints.py"
    name = called(node)
    if not path.startswith(PACKAGE):
        return None
    if name == "print":
        return "print() in the package: use mmengine's logger"
    if name in PICKLES:
        return f"{name}() in the package: write safetensors or JSON"
    return None


def may_not_import(config: str) -> bool:
    return config.startswith("configs/") and not config.startswith("configs/_base_/runtime_")


def problems(path: str, source: str) -> list[str]:
    """What is wrong with one file, a line each. ``path`` is relative to the project's root, with forward slashes."""
    found = []
    if (lines := len(source.splitlines())) > MAX_LINES:
        found.append(f"{path}: must have at most {MAX_LINES} lines. Got {lines}.")
    tree = ast.parse(source)
    in_package = path.startswith(f"{PACKAGE}/")
    if in_package and unit_of(path) not in LEVELS:
        return [*found, f"{path}: `{unit_of(path)}` has no level: give it one in LEVELS."]
    for line, module in imported_modules(tree):
        top = module.split(".")[0]
        if top == "tools" or (top == "tests" and not path.startswith("tests/")):
            found.append(f"{path}:{line}: import of {module}: nothing imports tools or tests")
        elif in_package and (problem := wall_problem(unit_of(path), module)):
            found.append(f"{path}:{line}: import of {module} {problem}")
        elif in_package and module in PICKLES:
            found.append(f"{path}:{line}: import of {module} in the package: write safetensors or JSON")
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (problem := call_problem(path, node)):
            found.append(f"{path}:{node.lineno}: {problem}")
        if isinstance(node, ast.Name) and node.id == "custom_imports" and may_not_import(path):
            found.append(f"{path}:{node.lineno}: custom_imports stands in configs/_base_/runtime_*.py alone")
    return found


def project_files() -> list[Path]:
    folders = (PACKAGE, "tests", "tools", "configs")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", project_files(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_keeps_the_walls(path: Path) -> None:
    found = problems(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    assert not found, "\n".join(found)


def test_every_package_folder_is_read() -> None:
    names = [path.relative_to(ROOT).as_posix() for path in project_files()]
    read = {unit_of(name) for name in names if name.startswith(f"{PACKAGE}/")}
    assert {"", "compat", "registry"} <= read


HOST_FREE = """
import importlib, pkgutil, sys
import subpt_dense
hosts = [name for name in ("mmdet", "mmseg", "mmcv", "mmpretrain", "open_clip", "cv2") if name in sys.modules]
assert not hosts, f"importing subpt_dense imports {hosts}"
for name in ("mmdet", "mmseg", "mmcv", "mmpretrain"):
    sys.modules[name] = None  # as if not installed
for unit in sys.argv[1:]:
    module = importlib.import_module(f"subpt_dense.{unit}")
    for info in pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + "."):
        importlib.import_module(info.name)
"""


def test_the_package_works_without_hosts() -> None:
    """Importing the package imports no host, and everything below the hosts' own packages imports where none is."""
    free = [u for u in LEVELS if u and (LEVELS[u] < 3 or u == "hooks")]
    present = [u for u in free if (ROOT / PACKAGE / u).is_dir() or (ROOT / PACKAGE / f"{u}.py").is_file()]
    done = subprocess.run([sys.executable, "-c", HOST_FREE, *present], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


BAD = [
    ("subpt_dense/text/a.py", "from subpt_dense.prompts import base", "climbs: text is level 1, prompts level 2"),
    (
        "subpt_dense/text/a.py",
        "def f():\n    import subpt_dense.hooks",
        r"a\.py:2: import of subpt_dense\.hooks climbs",
    ),
    ("subpt_dense/prompts/a.py", "from subpt_dense import detection", "climbs"),
    ("subpt_dense/prompts/a.py", "import importlib\nimportlib.import_module('subpt_dense.hooks')", "climbs"),
    ("subpt_dense/detection/a.py", "from subpt_dense.apis import predict", "neighbour's on level 3"),
    ("subpt_dense/hooks/a.py", "from subpt_dense.detection import x", "neighbour's on level 3"),
    ("subpt_dense/detection/a.py", "from subpt_dense.toyworld import x", "neighbour's on level 3"),
    ("subpt_dense/subspace/a.py", "from subpt_dense import compat", "neighbour's on level 0"),
    ("subpt_dense/subspace/a.py", "from subpt_dense.registry import HOOKS", "stands alone"),
    ("subpt_dense/subspace/a.py", "import numpy as np", "subspace stays with torch"),
    ("subpt_dense/__init__.py", "from subpt_dense import text", "imports compat alone"),
    ("subpt_dense/registry.py", "from subpt_dense.heads import x", "climbs"),
    ("subpt_dense/heads/a.py", "import mmdet", "host's: only detection may"),
    ("subpt_dense/hooks/a.py", "from mmseg.models import x", "host's: only segmentation may"),
    ("subpt_dense/detection/a.py", "from mmseg.models import x", "host's: only segmentation may"),
    ("subpt_dense/toyworld/a.py", "import mmdet.apis", "host's: only detection may"),
    (
        "subpt_dense/datasets/a.py",
        "from mmcv.transforms import x",
        "host's: only classification, detection, segmentation",
    ),
    ("subpt_dense/apis/a.py", "import mmpretrain", "only nobody may"),
    ("subpt_dense/text/a.py", "from . import names", "is relative"),
    ("subpt_dense/text/a.py", "from .names import x", "is relative"),
    ("subpt_dense/text/a.py", "from tests.text import x", "nothing imports tools or tests"),
    ("tools/a.py", "import tests", "nothing imports tools or tests"),
    ("tests/a.py", "from tools import demo", "nothing imports tools or tests"),
    ("subpt_dense/unheard_of/a.py", "", "`unheard_of` has no level"),
    ("subpt_dense/text/a.py", "print('x')", r"a\.py:1: print\(\) in the package"),
    ("subpt_dense/text/a.py", "import pickle\npickle.loads(b'')", r"a\.py:2: pickle\.loads\(\) in the package"),
    ("subpt_dense/text/a.py", "from pickle import load", "write safetensors or JSON"),
    ("subpt_dense/text/a.py", "torch.load(f, weights_only=False)", "weights_only=False"),
    ("tests/a.py", "load(f, weights_only=0)", "weights_only=False"),
    ("tools/a.py", "#\n" * 401, r"at most 400 lines\. Got 401\."),
    ("configs/a.py", "custom_imports = dict(imports=['subpt_dense.detection'])", "custom_imports stands in"),
]


@pytest.mark.parametrize(("path", "source", "message"), BAD)
def test_the_reader_finds(path: str, source: str, message: str) -> None:
    found = problems(path, source)
    assert len(found) == 1, found
    assert re.search(message, found[0]), found[0]


GOOD = [
    ("subpt_dense/__init__.py", "from subpt_dense.compat import install"),
    ("subpt_dense/compat/a.py", "import torchvision\nimport sys\nfrom subpt_dense.compat import ops"),
    ("subpt_dense/text/a.py", "from subpt_dense import __version__\nfrom subpt_dense.registry import MODELS"),
    ("subpt_dense/prompts/a.py", "from subpt_dense.losses import x\nfrom subpt_dense.text.names import y"),
    ("subpt_dense/hooks/a.py", "from subpt_dense.prompts.base import PromptHead\nfrom subpt_dense.subspace import x"),
    ("subpt_dense/detection/a.py", "import mmdet\nfrom mmcv.transforms import x\nfrom subpt_dense.registry import y"),
    ("subpt_dense/toyworld/a.py", "from subpt_dense.detection import x\nfrom subpt_dense.apis import y"),
    ("subpt_dense/apis/a.py", "from subpt_dense.detection import x\nfrom subpt_dense.segmentation import y"),
    ("subpt_dense/text/a.py", "import pickle\ntry: f()\nexcept pickle.UnpicklingError: raise"),
    ("subpt_dense/text/a.py", "torch.load(f, weights_only=True)\nx.print('a')"),
    ("tests/a.py", "from tests.tiny_clip import x\nprint(1)\nimport pickle\npickle.dumps(1)"),
    ("tools/a.py", "print(1)\n" * 400),
    ("configs/_base_/runtime_det.py", "custom_imports = dict(imports=['subpt_dense.detection'])"),
]


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_the_reader_lets_pass(path: str, source: str) -> None:
    assert problems(path, source) == []

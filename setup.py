"""Only what pyproject.toml cannot say: wheels carry configs and tools in ``subpt_dense/.mim``, as OpenMMLab's do."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
MIRRORED = ("configs", "tools", "model-index.yml")  # what mim and `subpt_dense::` bases look for


def mirrored_files(root: Path) -> list[Path]:
    """Files that the wheel mirrors, relative to ``root``, without caches."""
    found = [path for name in MIRRORED for path in (root / name, *(root / name).rglob("*"))]
    return sorted(path.relative_to(root) for path in found if path.is_file() and "__pycache__" not in path.parts)


class BuildWithMim(build_py):
    """Copies the mirrored files into the built package; does nothing in an editable install."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "subpt_dense" / ".mim"
        shutil.rmtree(target, ignore_errors=True)  # an earlier build's
        for path in mirrored_files(ROOT):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / path, target / path)

    def get_source_files(self) -> list[str]:
        """What a source distribution needs to build the same wheel."""
        return [*super().get_source_files(), *map(str, mirrored_files(ROOT))]


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithMim})

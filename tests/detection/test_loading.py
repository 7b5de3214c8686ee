import io
from pathlib import Path

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from subpt_dense.detection import LoadImage
from subpt_dense.registry import TRANSFORMS

# A smooth picture, so that JPEG changes little of it: [48, 64, 3] RGB.
X, Y = np.meshgrid(np.linspace(0, 255, 64), np.linspace(0, 255, 48))
RAMP = np.stack([X, Y, np.full_like(X, 90)], axis=-1).astype(np.uint8)


def save(path: Path, mode: str, **kwargs) -> np.ndarray:
    """Write the ramp in another colour mode; gives the RGB it stands for."""
    image = Image.fromarray(RAMP).convert(mode)
    image.save(path, **kwargs)
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [
        ("a.jpg", "RGB", 6),
        ("a.jpg", "L", 6),
        ("a.jpg", "CMYK", 6),
        ("a.png", "L", 0),
        ("a.png", "P", 0),
        ("a.png", "RGBA", 0),
    ],
)
def test_every_colour_mode_gives_three_channels_bgr(tmp_path: Path, name: str, mode: str, tolerance: int) -> None:
    wanted = save(tmp_path / name, mode, **({"quality": 98} if name.endswith("jpg") else {}))
    results = LoadImage()({"img_path": str(tmp_path / name)})
    assert results["img"].dtype == np.uint8 and results["img"].flags.c_contiguous
    assert results["img_shape"] == results["ori_shape"] == (48, 64)
    assert np.abs(results["img"][..., ::-1].astype(int) - wanted).max() <= tolerance


def test_float32_keeps_the_range(tmp_path: Path) -> None:
    save(tmp_path / "a.png", "RGB")
    image = LoadImage(to_float32=True)({"img_path": str(tmp_path / "a.png")})["img"]
    assert image.dtype == np.float32 and image.max() == 255


def broken(path: Path, kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "JPEG" if path.suffix == ".jpg" else "PNG")
    data = buffer.getvalue()
    content = {"truncated": data[: len(data) // 2], "empty": b"", "no image": b"<html>404</html>", "missing": None}[
        kind
    ]
    if content is not None:
        path.write_bytes(content)
    return str(path)


BROKEN = [
    ("a.jpg", "truncated"),
    ("a.png", "truncated"),
    ("a.jpg", "empty"),
    ("a.jpg", "no image"),
    ("a.jpg", "missing"),
]


@pytest.mark.parametrize(("name", "kind"), BROKEN)
def test_a_broken_file_raises_with_its_name(tmp_path: Path, name: str, kind: str) -> None:
    path = broken(tmp_path / name, kind)
    with pytest.raises(RuntimeError, match=rf"Image .*{name} cannot be read: \w+: .*`on_error='skip'` of LoadImage"):
        LoadImage()({"img_path": path})


@pytest.mark.parametrize(("name", "kind"), BROKEN)
def test_a_broken_file_is_skipped_with_one_warning(
    tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(MMLogger.get_current_instance(), "log", lambda level, text: lines.append(text))
    load = LoadImage(on_error="skip")
    path = broken(tmp_path / name, kind)
    assert load({"img_path": path}) is None and load({"img_path": path}) is None
    assert len(lines) == 1 and name in lines[0] and "Skipped" in lines[0]
    save(tmp_path / "good.png", "RGB")
    assert load({"img_path": str(tmp_path / "good.png")})["img"].shape == (48, 64, 3)
    assert len(lines) == 1


def test_an_unknown_policy_is_an_error() -> None:
    with pytest.raises(ValueError, match="`on_error` of LoadImage must be one of 'raise', 'skip'. Got 'ignore'"):
        LoadImage(on_error="ignore")


def test_builds_from_a_config() -> None:
    load = TRANSFORMS.build({"type": "subpt_dense.LoadImage", "on_error": "skip"})
    assert repr(load) == "LoadImage(on_error='skip', to_float32=False, backend_args=None)"

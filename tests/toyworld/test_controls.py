import pytest
import torch

from subpt_dense.prompts import RowsPrompt, TemplatePrompt, load_rows
from subpt_dense.toyworld.controls import KINDS, write_control_rows

NAMES = ("cat", "dog", "cow", "wolf", "zebra", "lynx", "bee", "yak")
NOVEL = 5


@pytest.fixture
def head(tiny_clip):
    return TemplatePrompt({"model": tiny_clip[0], "pretrained": tiny_clip[1]}, vocabulary=NAMES)


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_novel_rows_are_wrong(head, tmp_path, kind):
    path = write_control_rows(head, NOVEL, kind, tmp_path / "rows.safetensors")
    rows, own = load_rows(path).rows, head()
    assert load_rows(path).names == NAMES
    torch.testing.assert_close(rows[:-NOVEL], own[:-NOVEL])
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(NAMES)))
    away = (rows[-NOVEL:] - own[-NOVEL:]).norm(dim=1)
    assert (away > 1e-3).all()
    if kind == "shuffled":
        assert (torch.cdist(rows[-NOVEL:], own[-NOVEL:]) < 1e-5).sum(0).tolist() == [1] * NOVEL
    else:
        assert torch.cdist(rows[-NOVEL:], own).min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_seeds(head, tmp_path, kind):
    def rows(seed):
        return load_rows(write_control_rows(head, NOVEL, kind, tmp_path / "rows.safetensors", seed)).rows

    first, again, other = map(rows, (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_rows_prompt_serves_them(head, tmp_path):
    path = write_control_rows(head, NOVEL, "random", tmp_path / "rows.safetensors")
    served = RowsPrompt(file=str(path), vocabulary=NAMES)
    torch.testing.assert_close(served(), load_rows(path).rows)
    assert head()[-1] @ served()[-1] < 0.9


def test_unknown_kind(head, tmp_path):
    with pytest.raises(ValueError, match=r"`kind` of control rows must be one of shuffled, random\. Got 'zero'"):
        write_control_rows(head, NOVEL, "zero", tmp_path / "rows.safetensors")

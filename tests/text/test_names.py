"""Names: cleaning, refusals and the generic vocabulary."""

import pytest

from subpt_dense.text import check_names, clean_name, generic_names


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("cat", "cat"),
        ("hot_dog", "hot dog"),
        ("  hot__dog \n", "hot dog"),
        ("Potted Plant", "Potted Plant"),
        ("car (automobile)", "car (automobile)"),
        ("_", ""),
    ],
)
def test_clean_name(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize("names", [["cat"], ("hot_dog", "Cat", "dog"), ["crêpe", "crepe"]])
def test_names_come_back_unchanged(names: list[str]) -> None:
    assert check_names(names, owner="Head") == tuple(names)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("cat", TypeError, "`names` of Head must be a list of class names. Got str 'cat'."),
        ({"cat", "dog"}, TypeError, "Got set"),
        (None, TypeError, "Got NoneType None"),
        ([], ValueError, "must hold at least one class name. Got none."),
        (["cat", "", " ", "_"], ValueError, "non-empty strings. Got 1: '', 2: ' ', 3: '_' (position: value)."),
        (["cat", 3], ValueError, "Got 1: 3 (position"),
        (["cat", "dog", "cat"], ValueError, "Got 'cat' = 'cat'."),
        (["hot_dog", "cat", "Hot  dog "], ValueError, "Got 'hot_dog' = 'Hot  dog '."),
        (["a", "A", "b", "B", "c"], ValueError, "Got 'a' = 'A', 'b' = 'B'."),
    ],
)
def test_refusals_list_the_offenders(names: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        check_names(names, owner="Head")  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_imagenet_names_are_distinct() -> None:
    names = generic_names("imagenet")
    assert len(names) == 998
    assert names[0] == "tench"
    assert check_names(names, owner="test") == names


def test_unknown_vocabulary() -> None:
    with pytest.raises(ValueError, match=r"`vocabulary` must be one of 'imagenet'. Got 'lvis'."):
        generic_names("lvis")

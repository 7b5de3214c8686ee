"""Template lists by name, explicit lists, refusals."""

import open_clip
import pytest

from subpt_dense.text import get_templates


def test_named_lists() -> None:
    assert get_templates("single") == ("a photo of a {}.",)
    toy = get_templates("toy")
    assert len(toy) == 7 and toy[0] == "a photo of a {}." and toy[-1] == "a close photo of a {}."


def test_imagenet80_is_open_clips_list() -> None:
    templates = get_templates("imagenet80")
    assert len(templates) == len(set(templates)) == 80
    assert [t.replace("{}", "cat") for t in templates] == [t("cat") for t in open_clip.OPENAI_IMAGENET_TEMPLATES]


@pytest.mark.parametrize("name", ["single", "toy", "imagenet80"])
def test_every_named_template_is_a_valid_explicit_one(name: str) -> None:
    assert get_templates(list(get_templates(name))) == get_templates(name)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        (
            "imagenet7",
            "`templates` must be one of 'single', 'imagenet80', 'toy' or a list of templates. Got 'imagenet7'.",
        ),
        ("a photo of a {}.", "or a list of templates. Got 'a photo of a {}.'."),
        ([], "at least one template. Got none."),
        (["a {}.", "a cat.", "{} and {}."], "exactly one {} for the class name. Got 'a cat.', '{} and {}.'."),
        (["a {0}."], "Got 'a {0}.'."),
        (["a {name} {}."], "Got 'a {name} {}.'."),
        ([7], "Got 7."),
    ],
)
def test_refusals(templates: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        get_templates(templates)  # type: ignore[arg-type]
    assert message in str(caught.value)

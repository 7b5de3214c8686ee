import re
from pathlib import Path

import pytest

from subpt_dense.datasets import IMAGE_SETS, get_image_set
from subpt_dense.text import get_templates

README = (Path(__file__).parents[2] / "data" / "README.md").read_text()

# Written down from CoOp's page and papers: key, folder, images, list of names.
LAYOUT = """
imagenet         imagenet              images                                    classnames.txt
caltech101       caltech-101           101_ObjectCategories                      split_zhou_Caltech101.json
oxford_pets      oxford_pets           images                                    split_zhou_OxfordPets.json
stanford_cars    stanford_cars         .                                         split_zhou_StanfordCars.json
oxford_flowers   oxford_flowers        jpg                                       split_zhou_OxfordFlowers.json
food101          food-101              images                                    split_zhou_Food101.json
fgvc_aircraft    fgvc_aircraft         images                                    variants.txt
sun397           sun397                SUN397                                    split_zhou_SUN397.json
dtd              dtd                   images                                    split_zhou_DescribableTextures.json
eurosat          eurosat               2750                                      split_zhou_EuroSAT.json
ucf101           ucf101                UCF-101-midframes                         split_zhou_UCF101.json
imagenetv2       imagenetv2            imagenetv2-matched-frequency-format-val   classnames.txt
imagenet_sketch  imagenet-sketch       images                                    classnames.txt
imagenet_a       imagenet-adversarial  imagenet-a                                classnames.txt
imagenet_r       imagenet-rendition    imagenet-r                                classnames.txt
"""


@pytest.mark.parametrize("line", LAYOUT.split("\n")[1:-1])
def test_layout_is_that_of_coops_page(line: str) -> None:
    key, folder, images, names = line.split()
    info = get_image_set(key)
    assert info.key == key and info.folder == folder and info.names_file == names
    assert Path(info.image_folder("/d")) == Path("/d", folder, images)
    assert re.search(rf"├── {folder}/|└── {folder}/|`{folder}/`", README)


def test_there_are_the_eleven_and_the_four_variants_in_this_order() -> None:
    assert list(IMAGE_SETS) == [line.split()[0] for line in LAYOUT.split("\n")[1:-1]]


def test_sizes_add_up_as_published() -> None:
    # The classes of the 11 sets, and totals of the official releases that the fixed splits cut up.
    assert sum(info.classes for info in list(IMAGE_SETS.values())[:11]) == 2191
    totals = {"oxford_pets": 7349, "stanford_cars": 16185, "oxford_flowers": 8189, "food101": 101000, "dtd": 5640}
    totals |= {"fgvc_aircraft": 10000, "sun397": 39700, "eurosat": 27000, "ucf101": 13320, "caltech101": 8242}
    assert {key: sum(get_image_set(key).counts.values()) for key in totals} == totals
    assert get_image_set("imagenet").counts == {"train": 1281167, "test": 50000}
    assert [get_image_set(f"imagenet{v}").counts["test"] for v in ("v2", "_sketch", "_a", "_r")] == [
        10000, 50889, 7500, 30000,
    ]  # fmt: skip


def test_every_template_and_source_is_usable() -> None:
    for info in IMAGE_SETS.values():
        assert get_templates([info.template]) == (info.template,)
        assert "https://" in info.source and info.title in info.help() and info.folder in info.help()
        assert set(info.parts) == set(info.counts) and "test" in info.parts


@pytest.mark.parametrize(
    ("key", "part", "needed"),
    [
        ("caltech101", "val", ["caltech-101/split_zhou_Caltech101.json", "caltech-101/101_ObjectCategories/"]),
        ("caltech101", None, ["caltech-101/split_zhou_Caltech101.json"]),
        ("stanford_cars", "test", ["stanford_cars/split_zhou_StanfordCars.json", "stanford_cars/"]),
        (
            "fgvc_aircraft",
            "val",
            ["fgvc_aircraft/variants.txt", "fgvc_aircraft/images_variant_val.txt", "fgvc_aircraft/images/"],
        ),
        ("imagenet", "test", ["imagenet/classnames.txt", "imagenet/images/val/"]),
        ("imagenet", "train", ["imagenet/classnames.txt", "imagenet/images/train/"]),
        ("imagenet", None, ["imagenet/classnames.txt"]),
        ("imagenet_a", None, ["imagenet/classnames.txt", "imagenet-adversarial/imagenet-a/"]),
    ],
)
def test_needed_paths(key: str, part: str | None, needed: list[str]) -> None:
    found = get_image_set(key).needed("d", part)
    assert [path + "/" * (kind == "folder") for path, kind in found] == [f"d/{path}" for path in needed]


def test_a_variants_own_class_names_come_first(tmp_path: Path) -> None:
    info = get_image_set("imagenet_r")
    assert info.names_path(tmp_path) == str(tmp_path / "imagenet" / "classnames.txt")
    (tmp_path / "imagenet-rendition").mkdir()
    (tmp_path / "imagenet-rendition" / "classnames.txt").touch()
    assert info.names_path(tmp_path) == str(tmp_path / "imagenet-rendition" / "classnames.txt")


@pytest.mark.parametrize("key", ["Caltech101", "folder", None, ["dtd"]])
def test_unknown_sets(key: object) -> None:
    with pytest.raises(ValueError, match="`set` must be one of imagenet, caltech101, .*imagenet_r, or 'folder'. Got"):
        get_image_set(key)

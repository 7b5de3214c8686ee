"""The classification sets of CoOp's users: where each lies, how it is read, how large it is, where it is to be had.

Layout: CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp). Counts: table 5 of CoOp, arXiv 2109.01134; ImageNet's
variants: arXiv 1902.10811 (V2), 1905.13549 (Sketch), 1907.07174 (A), 2006.16241 (R). Templates: those that CoOp and
CoCoOp test zero-shot CLIP with.
"""

import os
from dataclasses import dataclass

PARTS = ("train", "val", "test")
#: The `set` of plain image folders, which no table knows.
FOLDER = "folder"
_PHOTO = "a photo of a {}."
_COOP = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"


@dataclass(frozen=True)
class ImageSetInfo:
    """One set.

    Attributes:
        key: What configs call it.
        title: What papers call it.
        folder: Its folder under the data root.
        images: Its image folder, relative to ``folder``; the paths of an image list start there.
        layout: How it is read. ``split``: a ``split_zhou`` file. ``variants``: FGVC Aircraft's own lists. ``wnid``: a
            folder a class, named by WordNet id, names in ``classnames.txt``. ``index``: the same, named by position.
        names_file: The split file, the list of variants or ``classnames.txt``, relative to ``folder``.
        classes: Number of classes, as published.
        counts: Images of each part, as published; a part without a number does not exist.
        template: The hand-crafted prompt of the set.
        source: Where it is to be had.
        part_folders: Where the parts lie under ``images``, for sets that keep a folder a part.
    """

    key: str
    title: str
    folder: str
    images: str
    layout: str
    names_file: str
    classes: int
    counts: dict[str, int]
    template: str
    source: str
    part_folders: tuple[tuple[str, str], ...] = ()

    @property
    def some_of_imagenet(self) -> bool:
        """Whether its folders say which of the 1000 classes it has; they are numbered among themselves."""
        return self.layout == "wnid" and self.classes < 1000

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts that exist."""
        return tuple(part for part in PARTS if part in self.counts)

    def path(self, root: str | os.PathLike[str], *below: str) -> str:
        """A path under the set's folder."""
        return os.path.normpath(os.path.join(root, self.folder, *below))

    def image_folder(self, root: str | os.PathLike[str], part: str | None = None) -> str:
        """The image folder, or that of one part where the parts have folders."""
        return self.path(root, self.images, dict(self.part_folders).get(part or "", ""))

    def names_path(self, root: str | os.PathLike[str]) -> str:
        """The file with the names. A variant of ImageNet without its own ``classnames.txt`` takes ImageNet's."""
        own = self.path(root, self.names_file)
        shared = os.path.normpath(os.path.join(root, "imagenet", self.names_file))
        return shared if self.key.startswith("imagenet") and not os.path.isfile(own) else own

    def list_path(self, root: str | os.PathLike[str], part: str) -> str | None:
        """The file that lists one part's images, for sets that keep a list a part."""
        return self.path(root, f"images_variant_{part}.txt") if self.layout == "variants" else None

    def needed(self, root: str | os.PathLike[str], part: str | None = None) -> list[tuple[str, str]]:
        """(path, ``"file"`` or ``"folder"``) of all that reading a part takes; what its class names take for None."""
        paths = [(self.names_path(root), "file")]
        if part is None:
            return [*paths, (self.image_folder(root), "folder")] if self.some_of_imagenet else paths
        listed = self.list_path(root, part)
        return [*paths, *([(listed, "file")] if listed else []), (self.image_folder(root, part), "folder")]

    def help(self) -> str:
        """One line: what it is and where it is to be had."""
        return f"{self.title} ({self.folder}/): {self.source}."


def _zhou(
    key: str, title: str, folder: str, images: str, split: str, classes: int, counts: tuple[int, int, int],
    template: str, source: str,
) -> ImageSetInfo:  # fmt: skip
    file = f"split_zhou_{split}.json"
    source = f"{source}; {file} from CoOp's page, {_COOP}"
    sizes = dict(zip(PARTS, counts, strict=True))
    return ImageSetInfo(key, title, folder, images, "split", file, classes, sizes, template, source)


def _imagenet(
    key: str, title: str, folder: str, images: str, classes: int, count: int, source: str, layout: str = "wnid"
) -> ImageSetInfo:
    source = f"{source}; classnames.txt from CoOp's page, {_COOP}"
    return ImageSetInfo(
        key, title, folder, images, layout, "classnames.txt", classes, {"test": count}, _PHOTO, source
    )  # fmt: skip


_SETS = (
    ImageSetInfo(
        key="imagenet",
        title="ImageNet",
        folder="imagenet",
        images="images",
        layout="wnid",
        names_file="classnames.txt",
        classes=1000,
        counts={"train": 1_281_167, "test": 50_000},
        template=_PHOTO,
        source=f"ILSVRC 2012 from https://image-net.org (account needed); classnames.txt from CoOp's page, {_COOP}",
        part_folders=(("train", "train"), ("test", "val")),
    ),
    _zhou(
        "caltech101", "Caltech101", "caltech-101", "101_ObjectCategories", "Caltech101",
        100, (4_128, 1_649, 2_465), _PHOTO, "https://data.caltech.edu/records/mzrjq-6wc02",
    ),
    _zhou(
        "oxford_pets", "OxfordPets", "oxford_pets", "images", "OxfordPets",
        37, (2_944, 736, 3_669), "a photo of a {}, a type of pet.", "https://www.robots.ox.ac.uk/~vgg/data/pets/",
    ),
    _zhou(
        "stanford_cars", "StanfordCars", "stanford_cars", "", "StanfordCars",
        196, (6_509, 1_635, 8_041), _PHOTO,
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html (has been offline for long spells)",
    ),
    _zhou(
        "oxford_flowers", "Flowers102", "oxford_flowers", "jpg", "OxfordFlowers",
        102, (4_093, 1_633, 2_463), "a photo of a {}, a type of flower.",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    ),
    _zhou(
        "food101", "Food101", "food-101", "images", "Food101",
        101, (50_500, 20_200, 30_300), "a photo of {}, a type of food.",
        "https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    ),
    ImageSetInfo(
        key="fgvc_aircraft",
        title="FGVCAircraft",
        folder="fgvc_aircraft",
        images="images",
        layout="variants",
        names_file="variants.txt",
        classes=100,
        counts={"train": 3_334, "val": 3_333, "test": 3_333},
        template="a photo of a {}, a type of aircraft.",
        source="fgvc-aircraft-2013b.tar.gz of https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/, its data/ renamed",
    ),
    _zhou(
        "sun397", "SUN397", "sun397", "SUN397", "SUN397",
        397, (15_880, 3_970, 19_850), _PHOTO, "https://vision.princeton.edu/projects/2010/SUN/",
    ),
    _zhou(
        "dtd", "DTD", "dtd", "images", "DescribableTextures",
        47, (2_820, 1_128, 1_692), "{} texture.", "https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    ),
    _zhou(
        "eurosat", "EuroSAT", "eurosat", "2750", "EuroSAT",
        10, (13_500, 5_400, 8_100), "a centered satellite photo of {}.", "https://github.com/phelber/EuroSAT (RGB)",
    ),
    _zhou(
        "ucf101", "UCF101", "ucf101", "UCF-101-midframes", "UCF101",
        101, (7_639, 1_898, 3_783), "a photo of a person doing {}.",
        "UCF-101-midframes.zip from CoOp's page (of the videos at https://www.crcv.ucf.edu/data/UCF101.php)",
    ),
    _imagenet(
        "imagenetv2", "ImageNetV2", "imagenetv2", "imagenetv2-matched-frequency-format-val",
        1000, 10_000, "the matched-frequency archive of https://github.com/modestyachts/ImageNetV2", layout="index",
    ),
    _imagenet(
        "imagenet_sketch", "ImageNet-Sketch", "imagenet-sketch", "images",
        1000, 50_889, "https://github.com/HaohanWang/ImageNet-Sketch",
    ),
    _imagenet(
        "imagenet_a", "ImageNet-A", "imagenet-adversarial", "imagenet-a",
        200, 7_500, "https://github.com/hendrycks/natural-adv-examples",
    ),
    _imagenet(
        "imagenet_r", "ImageNet-R", "imagenet-rendition", "imagenet-r",
        200, 30_000, "https://github.com/hendrycks/imagenet-r",
    ),
)  # fmt: skip

#: Key to set, in the order of CoOp's page.
IMAGE_SETS = {info.key: info for info in _SETS}


def get_image_set(key: str) -> ImageSetInfo:
    """The set of that key.

    Raises:
        ValueError: If there is none.
    """
    if not isinstance(key, str) or key not in IMAGE_SETS:
        raise ValueError(f"`set` must be one of {', '.join(IMAGE_SETS)}, or {FOLDER!r}. Got {key!r}.")
    return IMAGE_SETS[key]

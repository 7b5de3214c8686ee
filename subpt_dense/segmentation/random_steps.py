"""Which steps of a data set's pipeline draw random numbers, however deep they lie."""

from collections.abc import Iterator, Mapping
from typing import Any

#: Transforms that draw random numbers and do not say so, in their name or to mmcv (``cache_randomness``).
_RANDOM = (
    "PhotoMetricDistortion",
    "BioMedicalGaussianNoise",
    "BioMedicalGaussianBlur",
    "Albu",
    "CachedMosaic",
    "CachedMixUp",
    "RandAugment",
    "AutoAugment",
)
#: Where mmengine's, mmcv's and the hosts' wrappers keep data sets and transforms.
_INSIDE = ("dataset", "datasets", "pipeline", "transforms", "subroutines", "branch_pipelines")


def steps_of(dataset: Any) -> list[Any]:
    """The transforms of a data set, those inside wrapped data sets and inside other transforms included."""
    return [part for part in _parts(dataset) if not hasattr(part, "__len__")]


def random_steps(dataset: Any) -> list[str]:
    """Names of the transforms of a data set that draw random numbers.

    Known are those with "Random" in their name, those that tell mmcv so (``cache_randomness``), and a list of others.
    """
    return [type(step).__name__ for step in steps_of(dataset) if _draws(type(step))]


def _draws(kind: type) -> bool:
    return "Random" in kind.__name__ or kind.__name__ in _RANDOM or bool(getattr(kind, "_methods_with_randomness", ()))


def _parts(thing: Any) -> Iterator[Any]:
    if isinstance(thing, Mapping):
        inner = list(thing.values())
    elif isinstance(thing, (list, tuple)):
        inner = list(thing)
    else:
        yield thing
        inner = [getattr(thing, key) for key in _INSIDE if hasattr(thing, key)]
    for part in inner:
        yield from _parts(part)

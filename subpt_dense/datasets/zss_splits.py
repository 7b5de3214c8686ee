"""Seen and unseen classes of zero-shot segmentation, as published, and the sets that are only tested on.

Numbers are those in the label maps, once ``reduce_zero_label`` is done: VOC's and Context's background, and what
COCO-Stuff and ADE20K leave unlabelled, has none (but see ``context60_zss``).
"""

from subpt_dense.datasets.semantic_names import semantic_names

#: split: (names of, numbers of the unseen classes).
#:
#: - VOC 15/5 and COCO-Stuff 156/15: SPNet (Xian et al., CVPR 2019), as zsseg (arXiv 2112.14757) and ZegCLIP
#:   (arXiv 2212.03588) have them.
#: - Context 50/10: ZS3Net (arXiv 1906.00817): cow, motorbike, sofa, cat, boat, fence, bird, tvmonitor, keyboard,
#:   aeroplane. Its 50 seen classes count the background (number 0) as one: that is ``context60_zss``, without
#:   ``reduce_zero_label``. ``context_zss`` has the 59 names, 49 of them seen, and ignores the background.
ZERO_SHOT = {
    "voc_zss": ("voc20", (15, 16, 17, 18, 19)),
    "coco_stuff_zss": ("coco_stuff", (19, 23, 28, 29, 36, 51, 76, 88, 94, 112, 133, 136, 137, 157, 160)),
    "context_zss": ("pc59", (0, 6, 7, 14, 19, 24, 31, 33, 48, 54)),
    "context60_zss": ("pc60", (1, 7, 8, 15, 20, 25, 32, 34, 49, 55)),
}
#: Sets for cross-data-set evaluation: nobody is unseen.
TRANSFER = ("voc20", "pc59", "pc459", "ade150", "ade847")


def zero_shot_names(split: str) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """Seen names, unseen names, and the number of each in the label maps, seen ones first; numbers ascend in a group.

    Raises:
        ValueError: If there is no such split.
    """
    if split not in ZERO_SHOT and split not in TRANSFER:
        raise ValueError(f"`split` must be one of {', '.join((*ZERO_SHOT, *TRANSFER))}. Got {split!r}.")
    key, unseen = ZERO_SHOT.get(split, (split, ()))
    names = semantic_names(key)
    seen = [number for number in range(len(names)) if number not in unseen]
    return tuple(names[i] for i in seen), tuple(names[i] for i in unseen), (*seen, *unseen)

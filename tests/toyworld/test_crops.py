import pytest
import torch

from subpt_dense.toyworld.concepts import Concept, class_split
from subpt_dense.toyworld.crops import CROP_SIZE, render_crops
from subpt_dense.toyworld.render import DOMAINS

CONCEPTS = torch.tensor(class_split(0)[1][:6])


@pytest.mark.parametrize("domain", DOMAINS)
def test_crops_follow_their_seed(domain):
    state = torch.get_rng_state()
    crops = render_crops(CONCEPTS, 5, domain)
    assert crops.shape == (6, 3, CROP_SIZE, CROP_SIZE) and crops.dtype == torch.uint8
    assert torch.equal(crops, render_crops(CONCEPTS, 5, domain))
    assert not torch.equal(crops, render_crops(CONCEPTS, 6, domain))
    assert torch.equal(torch.get_rng_state(), state)


def test_domains_draw_other_pictures_of_the_same_things():
    src, tint, hue = (render_crops(CONCEPTS, 5, domain).float() for domain in DOMAINS)
    for a, b in ((src, tint), (src, hue), (tint, hue)):
        assert (a - b).abs().mean() > 2


def test_the_ground_can_be_chosen():
    concepts = torch.tensor([Concept(0, 0, 0)] * 30)
    night, snow = (render_crops(concepts, 1, ground=torch.full((30,), kind)).float().mean() for kind in (3, 5))
    assert snow - night > 60


def test_the_object_is_in_the_middle_and_the_rest_is_the_same():
    """Only the object, and nothing around it, changes with the concept."""
    red, blue = (render_crops(torch.tensor([Concept(colour, 0, 0)] * 20), 1).float() for colour in (0, 5))
    changed = (red - blue).abs().mean((0, 1))
    assert changed[24:40, 24:40].mean() > 30
    assert changed[0].max() < 3 and changed[:, -1].max() < 3


def test_none_at_all():
    assert render_crops(CONCEPTS[:0], 0).shape == (0, 3, 64, 64)


def test_unknown_domain():
    with pytest.raises(KeyError, match="mars"):
        render_crops(CONCEPTS, 0, "mars")

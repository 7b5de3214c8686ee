from collections import Counter

import pytest
from mmdet.datasets import LVISV1Dataset, Objects365V1Dataset, Objects365V2Dataset, VOCDataset
from mmseg.datasets import COCOStuffDataset

from subpt_dense.datasets import get_split
from subpt_dense.datasets.name_lists import FREQUENCIES, VOC, coco_stuff, lvis_v1, objects365
from subpt_dense.text import check_names

# By id: seen in 1, 10, 11, 100, 101 and 1977 training images, the last one, and the best known.
LVIS_FACTS = {
    31: ("baboon", "r"),
    14: ("apricot", "r"),
    64: ("bat_(animal)", "c"),
    736: ("orange_juice", "c"),
    515: ("green_onion", "f"),
    1079: ("tennis_racket", "f"),
    1203: ("zucchini", "c"),
    793: ("person", "f"),
}


class TestLVIS:
    def test_has_the_hosts_names_in_id_order(self) -> None:
        assert tuple(name for name, _ in lvis_v1()) == LVISV1Dataset.METAINFO["classes"]

    def test_has_the_published_number_of_each_frequency(self) -> None:
        assert Counter(frequency for _, frequency in lvis_v1()) == {"f": 405, "c": 461, "r": 337}
        assert set(FREQUENCIES) == {"f", "c", "r"}

    def test_names_differ_in_a_prompt(self) -> None:
        check_names([name for name, _ in lvis_v1()], owner="LVIS")

    def test_of_ids_begins_and_ends_where_it_should(self) -> None:
        assert {i: lvis_v1()[i - 1] for i in LVIS_FACTS} == LVIS_FACTS


def test_coco_stuff_has_the_hosts_names() -> None:
    assert coco_stuff() == tuple(COCOStuffDataset.METAINFO["classes"]) and len(coco_stuff()) == 171


@pytest.mark.parametrize(("version", "host"), [("v1", Objects365V1Dataset), ("v2", Objects365V2Dataset)])
def test_objects365_has_the_hosts_names(version: str, host: type) -> None:
    assert objects365(version) == tuple(host.METAINFO["classes"]) and len(objects365(version)) == 365
    assert get_split(f"objects365_{version}").all == objects365(version)


def test_voc_has_the_hosts_names_spelled_as_words() -> None:
    assert tuple(VOC) == tuple(VOCDataset.METAINFO["classes"])
    assert all(spelled.replace(" ", "") == name for name, spelled in VOC.items())
    assert get_split("voc07").all == tuple(VOC.values())

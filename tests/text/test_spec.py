"""What a config may say about a text tower."""

import copy
import pickle

import pytest
import torch

from subpt_dense.text import TextSpec, TowerKey


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_precisions(precision: str, dtype: torch.dtype) -> None:
    assert TextSpec("ViT-B-32-quickgelu", "openai", precision).dtype == dtype


def test_default_precision() -> None:
    assert TextSpec(model="m", pretrained="p").precision == "fp32"


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(model="", pretrained="p"), "`model` of TextSpec must be the name of an open_clip model. Got ''."),
        (dict(model=None, pretrained="p"), "Got None."),
        (dict(model="m", pretrained=""), "its weights would be random. Got ''."),
        (dict(model="m", pretrained=None), "its weights would be random. Got None."),
        (
            dict(model="m", pretrained="p", precision="amp"),
            "`precision` of TextSpec must be one of 'fp32', 'bf16', 'fp16'. Got 'amp'.",
        ),
    ],
)
def test_refusals(kwargs: dict, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        TextSpec(**kwargs)
    assert message in str(caught.value)


def test_a_key_is_a_value() -> None:
    key = TowerKey(TextSpec("m", "p"), "abc")
    assert pickle.loads(pickle.dumps(key)) == copy.deepcopy(key) == key
    assert {key: 1}[TowerKey(TextSpec("m", "p"), "abc")] == 1
    assert key != TowerKey(TextSpec("m", "p", "bf16"), "abc")

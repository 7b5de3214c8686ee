import copy
import pickle

import torch
from torch import nn

from subpt_dense.prompts.held import Held


def test_value_is_found_by_its_key():
    slot: Held[int] = Held()
    assert slot.get() is None and slot.take() is None
    assert slot.put(1) == 1 and slot.get() == 1 and slot.get("key") is None
    slot.put(2, "key")
    assert slot.get() is None and slot.get("key") == 2
    assert slot.take() == 2 and slot.get("key") is None


def test_copies_and_pickles_start_empty():
    module = nn.Linear(1, 1)
    module.slot = Held()
    module.slot.put(module.weight * 2)  # carries a graph: a plain attribute could not be copied
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin.slot.get() is None
    assert copy.copy(module.slot).get() is None
    assert module.slot.get() is not None
    assert list(module.state_dict()) == ["weight", "bias"]
    assert module.to(torch.float64).slot.get().dtype == torch.float32

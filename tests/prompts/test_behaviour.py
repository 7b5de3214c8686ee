"""What every prompt head promises, over the case table of conftest.py."""

import copy
import pickle

import pytest
import torch

from subpt_dense.prompts import ContextPrompt, LearnedPrompt, PromptHead, TowerPrompt
from tests.prompts.conftest import CASES, MORE, NAMES


def is_learned(head: PromptHead) -> bool:
    return isinstance(head, ContextPrompt) and not isinstance(head, LearnedPrompt)


def test_unit_rows(head):
    rows = head()
    assert rows.shape == (len(NAMES), 24) == (len(NAMES), head.embed_dim) and rows.dtype == torch.float32
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(len(NAMES)))
    assert rows.requires_grad == is_learned(head)
    assert not head.conditional


def test_rows_follow_the_vocabulary(head):
    rows = head.eval()()
    head.vocabulary = [*reversed(NAMES), *MORE]
    assert head.vocabulary == (*reversed(NAMES), *MORE)
    torch.testing.assert_close(head()[:3], rows.flip(0))
    assert head().shape[0] == 5
    head.vocabulary = NAMES
    torch.testing.assert_close(head(), rows)


def test_spelling_does_not_matter(head):
    rows = head.eval()()
    head.vocabulary = ("Cat", "traffic_light", "dog")
    torch.testing.assert_close(head(), rows)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ((), ValueError, "at least one"),
        (("cat", "dog", "Cat"), ValueError, "must be distinct.*'cat' = 'Cat'"),
        (("cat", " "), ValueError, "non-empty"),
        ("cat", TypeError, "list of class names"),
    ],
    ids=["none", "repeated", "blank", "string"],
)
def test_refused_vocabulary_changes_nothing(head, names, error, message):
    rows = head()
    with pytest.raises(error, match=f"{type(head).__name__}.*{message}"):
        head.vocabulary = names
    assert head.vocabulary == NAMES
    torch.testing.assert_close(head(), rows)


def test_vocabulary_can_wait(case, build):
    head = build(case, vocabulary=())
    with pytest.raises(RuntimeError, match=f"`vocabulary` of {type(head).__name__} is not set"):
        head()
    head.vocabulary = NAMES
    torch.testing.assert_close(head(), build(case)())


def test_gradient_reaches_the_context_only(head):
    parameters = head.prompt_parameters()
    assert dict(head.named_parameters()).keys() == parameters.keys()
    assert list(parameters) == (["context"] if is_learned(head) else [])
    if parameters:
        (head().square() @ torch.rand(24)).sum().backward()
        assert parameters["context"].grad.abs().sum() > 0
    if isinstance(head, TowerPrompt):
        frozen = list(head.tower(torch.device("cpu")).modules.parameters())
        assert frozen and not any(p.requires_grad or p.grad is not None for p in frozen)


def test_state_dict_holds_neither_tower_nor_rows(head):
    head()
    assert list(head.state_dict()) == (["context", "initial_context"] if is_learned(head) else [])
    head.eval()()
    assert sum(value.numel() for value in head.state_dict().values()) <= 2 * 4 * 32
    contexts = 2 if type(head).__name__ == "AveragedPrompt" else 1
    assert sum(buffer.numel() for buffer in head.buffers()) <= contexts * 4 * 32


def test_state_dict_round_trip(case, build):
    head, other = build(case), build(case)
    for parameter in head.parameters():
        parameter.data.normal_()
    assert is_learned(head) != torch.allclose(other.eval()(), head.eval()())  # and other's rows are now cached
    other.load_state_dict(head.state_dict())
    torch.testing.assert_close(other(), head(), rtol=0, atol=0)


def test_deepcopy_in_the_middle_of_a_step(head):
    rows = head()  # features with a graph are now kept for the auxiliary losses
    twin = copy.deepcopy(head)
    torch.testing.assert_close(twin(), rows)
    assert twin.identity() == head.identity() and twin.vocabulary == head.vocabulary
    for parameter in twin.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(head(), rows)


def test_pickle_carries_no_tower(head):
    rows = head()
    data = pickle.dumps(head)
    assert len(data) < 20_000
    torch.testing.assert_close(pickle.loads(data)(), rows)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)], ids=str
)
@pytest.mark.parametrize("training", [True, False])
def test_rows_stay_float32(case, build, dtype, tolerance, training):
    head = build(case).train(training)
    rows = head()
    converted = head.half() if dtype == torch.float16 else head.to(dtype)
    assert all(p.dtype == dtype for p in converted.parameters())
    again = converted()
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, rows, rtol=0, atol=tolerance)
    if isinstance(head, TowerPrompt):
        assert head.tower(torch.device("cpu")).dtype == torch.float32
    if again.requires_grad:
        again[0, 0].backward()
        assert all(p.grad.dtype == dtype for p in head.parameters())


def test_autocast_does_not_change_rows(head):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = head()
    torch.testing.assert_close(head(), rows, rtol=0, atol=0)


def test_rows_are_computed_once_in_eval(head):
    head.eval()
    rows = head()
    assert head() is rows and not rows.requires_grad
    torch.testing.assert_close(head.train()(), rows, rtol=1e-5, atol=1e-6)


def test_rows_kept_under_inference_mode_may_meet_a_graph(head):
    head.eval()
    with torch.inference_mode():
        head()
    features = torch.rand(2, 24, requires_grad=True)
    (features @ head().T).sum().backward()
    assert features.grad is not None


def test_cache_follows_the_context(learned):
    learned.eval()
    changes = [
        lambda: learned.context.data.add_(0.1),
        lambda: learned.context.data.__setitem__((0, 0), 1.0),
        lambda: learned.load_state_dict({key: value + 0.1 for key, value in learned.state_dict().items()}),
        lambda: setattr(learned.context, "data", torch.rand_like(learned.context)),
    ]
    for change in changes:
        rows = learned()
        change()
        assert learned() is not rows and not torch.equal(learned(), rows)
        torch.testing.assert_close(learned(), learned.train()().detach(), rtol=1e-5, atol=1e-6)
        learned.eval()


def test_train_and_eval(learned):
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.1)
    for _ in range(2):
        before = learned.eval()()
        assert learned.auxiliary_losses() == {}
        rows = learned.train()()
        (rows.sum() + sum(learned.auxiliary_losses().values())).backward()
        optimizer.step()
        optimizer.zero_grad()
        assert not torch.equal(learned.eval()(), before)
    assert learned.displacement() > 0


def test_a_frozen_context_is_cached_in_training_too(learned):
    learned.requires_grad_(False)
    assert learned() is learned() and not learned().requires_grad
    assert learned.auxiliary_losses() == {}


def test_auxiliary_losses(case, head):
    head()
    losses = head.auxiliary_losses()
    assert list(losses) == {"nfl": ["loss_nfl"], "nfl-kgcoop": ["loss_nfl", "loss_kgcoop"]}.get(case, [])
    assert all(loss.shape == () and loss.dtype == torch.float32 and loss.requires_grad for loss in losses.values())


def test_identity(case, head, build, plain):
    identity = head.identity()
    assert plain(identity) == identity
    assert identity["type"] == CASES[case]["type"].removeprefix("subpt_dense.")
    assert identity["backbone"] and identity["weights"] and len(identity["weights_hash"]) == 64
    assert "/" not in identity["weights"]
    head.vocabulary = [*NAMES, *MORE]
    assert head.identity() == identity, "the vocabulary follows the data set and is no part of the head"
    others = [build(other).identity() for other in CASES if other != case]
    assert identity not in others


def test_a_batch_packed_under_inference_mode_may_be_trained(learned):
    with torch.inference_mode():
        learned()
    (learned().sum() + sum(learned.auxiliary_losses().values())).backward()
    assert learned.context.grad.abs().sum() > 0


@pytest.mark.gpu
def test_head_follows_the_model_to_another_device(head):
    rows = head.eval()()
    moved = head.cuda()()
    assert moved.is_cuda
    torch.testing.assert_close(moved.cpu(), rows, rtol=1e-4, atol=1e-4)

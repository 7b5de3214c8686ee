"""The subspace object: projection identities, the three operations, what it refuses."""

import pytest
import torch

from subpt_dense.subspace import Subspace

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}


def random_subspace(rank: int, length: int, seed: int = 0) -> Subspace:
    generator = torch.Generator().manual_seed(seed)
    columns = torch.randn(length, rank, generator=generator, dtype=torch.float64)
    return Subspace(torch.linalg.qr(columns).Q.T, torch.full((rank,), 1 / rank))


def dense(operation, length: int) -> torch.Tensor:
    """The matrix [P, P] of a linear operation on vectors."""
    return torch.stack([operation(column) for column in torch.eye(length, dtype=torch.float64)], dim=1)


@pytest.mark.parametrize(("rank", "length"), [(1, 1), (1, 7), (3, 7), (7, 7), (10, 300)])
def test_keep_is_the_orthogonal_projection(rank: int, length: int) -> None:
    subspace = random_subspace(rank, length)
    matrix = dense(subspace.keep, length)
    assert (matrix @ matrix - matrix).abs().max() < 1e-12
    assert (matrix.T - matrix).abs().max() < 1e-12
    assert matrix.trace().item() == pytest.approx(rank)
    assert (subspace.basis @ matrix - subspace.basis).abs().max() < 1e-12
    assert (matrix + dense(subspace.remove, length) - torch.eye(length)).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_dtype_comes_back_and_sums_up(dtype: torch.dtype) -> None:
    subspace = random_subspace(4, 50)
    vector = torch.randn(50, generator=torch.Generator().manual_seed(1)).to(dtype)
    kept, removed = subspace.keep(vector), subspace.remove(vector)
    assert kept.dtype == removed.dtype == dtype
    assert (kept + removed - vector).abs().max() < TOLERANCE[dtype]
    assert (subspace.basis @ removed.double()).abs().max() < TOLERANCE[dtype]


def test_identity_basis_changes_no_bit() -> None:
    subspace = Subspace(torch.eye(40), torch.full((40,), 1 / 40))
    vector = torch.randn(40, generator=torch.Generator().manual_seed(2)) * torch.logspace(-20, 20, 40)
    assert torch.equal(subspace.keep(vector), vector)
    assert not subspace.remove(vector).any()


def test_remove_conflict_is_a_gem_for_one_reference() -> None:
    generator = torch.Generator().manual_seed(3)
    seen = set()
    for _ in range(20):
        vector, reference = torch.randn(2, 30, generator=generator, dtype=torch.float64)
        subspace = Subspace((reference / reference.norm())[None], torch.ones(1))
        inner = vector @ reference
        expected = vector - inner / (reference @ reference) * reference if inner < 0 else vector
        assert torch.allclose(subspace.remove_conflict(vector, reference), expected, atol=1e-12)
        seen.add(bool(inner < 0))
    assert seen == {True, False}


def test_conflict_is_judged_inside_the_subspace() -> None:
    subspace = Subspace(torch.eye(3)[:1], torch.ones(1))
    vector, reference = torch.tensor([1.0, 5.0, 0.0]), torch.tensor([1.0, -5.0, 0.0])
    assert torch.equal(subspace.remove_conflict(vector, reference), vector)
    assert torch.equal(subspace.remove_conflict(vector, -reference), torch.tensor([0.0, 5.0, 0.0]))


def test_state_dict_round_trip_and_repr() -> None:
    subspace = random_subspace(3, 9)
    again = Subspace.from_state_dict(subspace.state_dict())
    assert torch.equal(again.basis, subspace.basis) and torch.equal(again.explained, subspace.explained)
    assert (again.rank, again.length) == (3, 9)
    assert repr(again) == "Subspace(rank=3, length=9, explained=1.0000)"
    assert torch.equal(again.to("cpu").basis, subspace.basis)
    with pytest.raises(ValueError, match=r"must hold `basis` and `explained`. Missing: explained"):
        Subspace.from_state_dict({"basis": subspace.basis})


@pytest.mark.parametrize(
    ("basis", "explained", "message"),
    [
        (torch.eye(3)[0], torch.ones(1), r"`basis` must have shape \[R, P\] with 1 <= R <= P. Got \[3\]"),
        (torch.zeros(0, 3), torch.zeros(0), r"Got \[0, 3\]"),
        (torch.eye(4)[:, :3], torch.ones(4), r"Got \[4, 3\]"),
        (torch.eye(3), torch.ones(2), r"`explained` must have shape \[3\], one a row of `basis`. Got \[2\]"),
        (torch.ones(2, 3), torch.zeros(2), r"orthonormal to 1e-08. Got max \|U U\^T - I\| = 3"),
        (torch.eye(3) * torch.nan, torch.zeros(3), r"orthonormal to 1e-08. Got max \|U U\^T - I\| = nan"),
        (torch.eye(2), torch.tensor([0.5, 1.5]), r"`explained` must be in \[0, 1\]. Got \[0.5, 1.5\]"),
        (torch.eye(2), torch.tensor([0.5, torch.nan]), r"`explained` must be in \[0, 1\]"),
    ],
)
def test_what_is_no_subspace_is_refused(basis: torch.Tensor, explained: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Subspace(basis, explained)


@pytest.mark.parametrize("operation", ["keep", "remove"])
@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (torch.zeros(5), r"`vector` must have shape \[6\], like the basis. Got \[5\]"),
        (torch.zeros(2, 3), r"`vector` must have shape \[6\], like the basis. Got \[2, 3\]"),
        (torch.zeros(6, dtype=torch.int64), r"`vector` must have a floating dtype. Got torch.int64"),
    ],
)
def test_what_is_no_vector_is_refused(operation: str, vector: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(random_subspace(2, 6), operation)(vector)
    with pytest.raises(ValueError, match=message.replace("`vector`", "`reference`")):
        random_subspace(2, 6).remove_conflict(torch.zeros(6), vector)

import pickle

import pytest
import torch

from subpt_dense.segmentation import GammaGridMetric, ZeroShotIoUMetric
from subpt_dense.segmentation.gamma_grid import predict_for

NAMES = ("a", "b", "c", "d", "e")
META = {"classes": NAMES, "base_classes": ("a", "c", "e"), "novel_classes": ("b", "d")}
SEEN = torch.tensor([True, False, True, False, True])
GAMMAS = (0.0, 0.5, 1.0, 2.5)


def images(count: int = 3) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(logits [5, 8, 9], labels [8, 9]): unseen classes are right as often, but lower by one."""
    rng = torch.Generator().manual_seed(0)
    made = []
    for _ in range(count):
        labels = torch.randint(0, 5, (8, 9), generator=rng)
        right = torch.nn.functional.one_hot(labels, 5).permute(2, 0, 1)
        logits = torch.randn(5, 8, 9, generator=rng) + 1.5 * right + SEEN[:, None, None]
        labels[0] = 255
        made.append((logits, labels))
    return made


def sample(logits: torch.Tensor, labels: torch.Tensor, k: int = 0, **more) -> dict:
    maps = {"seg_logits": {"data": logits}, "gt_sem_seg": {"data": labels[None]}}
    return {**maps, "pred_sem_seg": {"data": logits.argmax(0)[None]}, "seg_map_path": f"ann/{k}.png", **more}


def run(metric: ZeroShotIoUMetric, samples: list[dict]) -> dict[str, float]:
    metric.dataset_meta = META
    metric.process({}, samples)
    return metric.evaluate(len(samples))


def grid(gammas: tuple[float, ...] = GAMMAS) -> GammaGridMetric:
    return GammaGridMetric(gammas=gammas, protocol="x")


class TestGrid:
    def test_each_row_equals_the_metric_on_logits_less_gamma(self) -> None:
        metric = grid()
        scores = run(metric, [sample(*one, k) for k, one in enumerate(images())])
        rows = {row["gamma"]: row for row in metric.table.details["grid"]["rows"]}
        assert tuple(rows) == GAMMAS
        for gamma, row in rows.items():
            lowered = [(logits - gamma * SEEN[:, None, None], labels) for logits, labels in images()]
            expected = run(ZeroShotIoUMetric(protocol="x"), [sample(*one, k) for k, one in enumerate(lowered)])
            assert {key: row[key] for key in ("S", "U", "hIoU", "pAcc")} == pytest.approx(
                {key: expected[key] for key in ("S", "U", "hIoU", "pAcc")}, abs=1e-9
            )
            if gamma == scores["gamma"]:
                assert {key: scores[key] for key in expected} == pytest.approx(expected, abs=1e-9)

    def test_the_best_has_the_highest_hiou(self) -> None:
        metric = grid()
        scores = run(metric, [sample(*one) for one in images()])
        rows = metric.table.details["grid"]["rows"]
        assert scores["hIoU"] == max(row["hIoU"] for row in rows) > rows[0]["hIoU"]
        assert scores["gamma"] == metric.table.details["gamma"] == 1.0  # what was added to the seen ones
        assert metric.table.groups["all"]["hiou"] == scores["hIoU"] and "grid" not in metric.table.to_text()

    def test_the_smallest_among_equals(self) -> None:
        logits, labels = images(1)[0]
        scores = run(grid((7.0, 3.0, 5.0)), [sample(logits - 100 * SEEN[:, None, None].float(), labels)])
        assert scores["gamma"] == 3.0

    def test_of_an_image_only_the_classes_in_it_are_kept(self) -> None:
        names = tuple(f"class {k}" for k in range(150))
        gammas = tuple(0.1 * g for g in range(41))
        metric, plain = grid(gammas), ZeroShotIoUMetric(protocol="x")
        samples, rng = [], torch.Generator().manual_seed(0)
        for k in range(3):
            logits, labels = torch.zeros(150, 8, 9), torch.full((8, 9), k)
            logits[10 * k : 10 * k + 4] = 5 + torch.randn(4, 8, 9, generator=rng)  # found: two seen, two unseen ones
            samples.append(sample(logits, labels, k))
        for one in (metric, plain):
            one.dataset_meta = {"classes": names, "base_classes": names[::2], "novel_classes": names[1::2]}
            one.process({}, samples)
        kept = [len(pickle.dumps(result)) for result in metric.results]
        assert (
            max(kept) < 41 * 2 * 5 * 4 + 3000
        )  # two counts of five classes for 41 gammas, in 4 bytes; not 41 * 4 * 150
        values = [value for result in metric.results for value in result.values() if isinstance(value, torch.Tensor)]
        assert all(value.untyped_storage().nbytes() == 4 * value.numel() for value in values)
        metric.evaluate(3)
        at_zero, expected = metric.table.details["grid"]["rows"][0], plain.evaluate(3)
        assert at_zero == pytest.approx({"gamma": 0.0, **{key: expected[key] for key in ("S", "U", "hIoU", "pAcc")}})
        assert metric.table.images == 3

    def test_the_hash_is_that_of_the_metric(self) -> None:
        metrics = grid(), ZeroShotIoUMetric(protocol="x")
        for metric in metrics:
            run(metric, [sample(*one, k) for k, one in enumerate(images())])
        assert metrics[0].table.annotation_sha256 == metrics[1].table.annotation_sha256


@pytest.mark.parametrize("gamma", [0.0, 0.7, -1.0, 1e6, -1e6])
def test_predictions_equal_an_argmax_ties_included(gamma: float) -> None:
    logits = torch.randint(0, 3, (5, 20, 20), generator=torch.Generator().manual_seed(1)).double()
    (found,) = predict_for(logits, SEEN, [gamma])
    assert torch.equal(found, (logits - gamma * SEEN[:, None, None]).argmax(0))


class TestRefusals:
    @pytest.mark.parametrize("gammas", [(), (1.0, 1.0), (0.0, float("nan"))])
    def test_gammas(self, gammas: tuple[float, ...]) -> None:
        with pytest.raises(ValueError, match="`gammas` of GammaGridMetric must be distinct finite numbers"):
            grid(gammas)

    def test_files(self, tmp_path) -> None:
        with pytest.raises(ValueError, match="it only scores"):
            GammaGridMetric(gammas=[0], protocol="x", output_dir=str(tmp_path))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"gamma": 0.5}, "logits from which nothing was subtracted. Got gamma 0.5 for ann/0.png"),
            ({"seg_logits": None}, "needs `seg_logits` on the samples. Got none for ann/0.png"),
        ],
    )
    def test_samples(self, change: dict, message: str) -> None:
        made = {key: value for key, value in (sample(*images(1)[0]) | change).items() if value is not None}
        with pytest.raises(ValueError, match=message):
            run(grid(), [made])

    def test_nothing_unseen(self) -> None:
        metric = grid()
        metric.dataset_meta = META | {"base_classes": NAMES, "novel_classes": ()}
        with pytest.raises(ValueError, match="needs unseen classes beside the seen ones"):
            metric.process({}, [sample(*images(1)[0])])

    def test_images_without_one_of_the_groups(self) -> None:
        logits = torch.zeros(5, 2, 2)
        logits[0] = 9
        with pytest.raises(ValueError, match="needs pixels of seen and of unseen classes"):
            run(grid((0.0,)), [sample(logits, torch.zeros(2, 2, dtype=torch.long))])

    def test_no_images(self) -> None:
        metric = grid()
        with pytest.raises(ValueError, match="needs at least one evaluated image"):
            metric.compute_metrics([])

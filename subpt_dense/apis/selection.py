"""What a validation set says of every epoch of a run, afterwards (V images, D embedding, P prompt numbers)."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from subpt_dense.evaluation import Trajectory
from subpt_dense.hooks.host import host_of
from subpt_dense.registry import DATASETS
from subpt_dense.subspace import flatten, write_flat

_BATCH = 1024


def validation_scores(
    model: nn.Module, dataset: Mapping[str, Any], trajectory: Trajectory | None, epochs: Sequence[int]
) -> list[float]:
    """Accuracy on a data set with the prompt of each epoch, in percent.

    The prompts are in the trajectory: nothing is trained again, and nothing has to be decided in training. The model is
    left as it was.

    Args:
        model: A trained :class:`~subpt_dense.classification.PromptedClassifier`, or its wrapper.
        dataset: Config of a data set with items ``inputs`` and ``label`` among its ``metainfo["classes"]``. Cached
            features make it cheap.
        trajectory: What :class:`~subpt_dense.hooks.TrajectoryHook` recorded; None for a head that learns nothing, which
            has one score for all epochs.
        epochs: Which ones, counted over both passes.

    Raises:
        ValueError: If an epoch was not recorded.
    """
    data, host = DATASETS.build(dict(dataset)), host_of(model)
    device = next((value.device for value in (*host.parameters(), *host.buffers())), torch.device("cpu"))
    items = [data[index] for index in range(len(data))]
    inputs = torch.stack([item["inputs"] for item in items]).to(device)  # [V, D] or images
    labels = torch.tensor([item["label"] for item in items], device=device)
    names, training = tuple(host.prompt.vocabulary), host.training
    parameters = list(host.prompt.prompt_parameters().values())
    last = flatten(parameters) if parameters else None
    host.set_vocabulary(data.metainfo["classes"])
    host.eval()
    try:
        if trajectory is None:
            return [_accuracy(host, inputs, labels)] * len(epochs)
        recorded = dict(zip(trajectory.epochs.tolist(), trajectory.parameters, strict=True))
        missing = [epoch for epoch in epochs if epoch not in recorded]
        if missing:
            raise ValueError(
                f"`epochs` of validation_scores must have been recorded: {sorted(recorded)}. Got {missing} as well. "
                "Let TrajectoryHook record every epoch that is validated."
            )
        scores = []
        for epoch in epochs:
            write_flat(recorded[epoch], parameters)
            scores.append(_accuracy(host, inputs, labels))
        return scores
    finally:
        if last is not None:
            write_flat(last, parameters)
        host.train(training)
        if names:
            host.set_vocabulary(names)


@torch.no_grad()
def _accuracy(host: Any, inputs: Tensor, labels: Tensor) -> float:
    pairs = zip(inputs.split(_BATCH), labels.split(_BATCH), strict=True)
    right = [(host(batch, mode="tensor").argmax(dim=1) == label).sum().item() for batch, label in pairs]
    return 100 * sum(right) / len(labels)

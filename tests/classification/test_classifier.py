"""The classifier: zero-shot CLIP where nothing is learned, CoOp's step, and real Runners in every way to run them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import open_clip
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch.nn.functional import cross_entropy

from subpt_dense.classification import PromptedClassifier, get_image_tower
from subpt_dense.prompts import TemplatePrompt
from subpt_dense.text import TextSpec
from tests.classification.conftest import SIZE
from tests.hooks.toy_run import ScaledWrapper
from tests.tiny_clip import tiny_config, write_tiny_clip

VOCABULARY = ["cat", "hot dog", "owl"]
Clip = tuple[str, str]


def build(clip: Clip, prompt: dict[str, Any] | None = None, **options: Any) -> PromptedClassifier:
    torch.manual_seed(0)
    text = {"model": clip[0], "pretrained": clip[1]}
    prompt = prompt or {"type": "subpt_dense.ContextPrompt", "length": 4, "init_std": 0.3}
    model = PromptedClassifier(prompt=prompt, language={"text": text, "templates": "single"}, **options)
    model.set_vocabulary(VOCABULARY)
    return model


def batch(count: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    return {"inputs": images, "label": torch.arange(count) % 3, "index": torch.arange(count)}


def test_one_template_and_no_context_is_zero_shot_clip(tiny_clip: Clip) -> None:
    model = build(tiny_clip, {"type": "subpt_dense.TemplatePrompt", "templates": "single"}).eval()
    clip = open_clip.create_model(tiny_clip[0], pretrained=tiny_clip[1]).eval()
    facts = open_clip.get_model_preprocess_cfg(clip)
    mean, std = (torch.tensor(facts[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        image = clip.encode_image((batch()["inputs"].float() / 255 - mean) / std, normalize=True)
        texts = open_clip.get_tokenizer(tiny_clip[0])([f"a photo of a {name}." for name in VOCABULARY])
        expected = clip.logit_scale.exp() * image @ clip.encode_text(texts, normalize=True).T
        found = model(batch()["inputs"])
    torch.testing.assert_close(found, expected, atol=2e-4, rtol=0)  # logits of 14 and more


def test_features_and_images_give_the_same_step(tiny_clip: Clip) -> None:
    model, data = build(tiny_clip).train(), batch()
    features = get_image_tower(TextSpec(*tiny_clip)).encode(data["inputs"])
    gradients = []
    for inputs in (data["inputs"], features):
        losses = model(inputs, data["label"], mode="loss")
        assert set(losses) == {"loss_ce", "acc"}
        model.zero_grad()
        losses["loss_ce"].backward()
        gradients.append(model.prompt.context.grad.clone())
    assert torch.equal(*gradients)
    logits = model(features)
    assert losses["loss_ce"] == cross_entropy(logits, data["label"])
    assert losses["acc"] == 100 * (logits.argmax(1) == data["label"]).float().mean()
    (sample,) = model(features, data["label"], mode="predict")
    assert torch.equal(sample["logits"], logits) and torch.equal(sample["label"], data["label"])


def test_features_of_another_tower_are_refused(tiny_clip: Clip) -> None:
    model, tower = build(tiny_clip), get_image_tower(TextSpec(*tiny_clip))
    features = tower.encode(batch()["inputs"])
    assert model(features, tower=[tower.weights_hash] * 6).shape == (6, 3)
    with pytest.raises(
        ValueError, match=r"must be features of its own image tower, .* Got features of abc: the `image`"
    ):
        model(features, tower=[tower.weights_hash, "abc"])


def test_nothing_but_the_prompt_is_in_the_model(tiny_clip: Clip) -> None:
    model = build(tiny_clip)
    assert set(model.state_dict()) == {"prompt.context", "prompt.initial_context"}
    assert [name for name, _ in model.named_parameters()] == ["prompt.context"]
    assert copy.deepcopy(model)(batch()["inputs"]).shape == (6, 3)


def test_rows_per_image_are_handed_out(tiny_clip: Clip) -> None:
    model = build(tiny_clip, {"type": "subpt_dense.ConditionalPrompt", "length": 4}).train()
    losses = model(**batch(), mode="loss")
    losses["loss_ce"].backward()
    assert all(p.grad is not None for p in model.prompt.prompt_parameters().values())
    assert model(batch(2)["inputs"]).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "train"}, ValueError, r"must be 'tensor', 'loss' \(with `label`\) or 'predict'. Got 'train'"),
        ({"mode": "loss", "label": None}, ValueError, r"Got 'loss' without labels"),
    ],
)
def test_other_modes_are_refused(tiny_clip: Clip, options: dict[str, Any], error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        build(tiny_clip)(**(batch() | options))


def test_a_classifier_needs_a_clip_of_its_rows_length(tiny_clip: Clip, tmp_path: Path) -> None:
    prompt = TemplatePrompt(TextSpec(*tiny_clip))
    with pytest.raises(ValueError, match=r"`image` of PromptedClassifier must name a CLIP.*Got neither"):
        PromptedClassifier(prompt=prompt)
    wider = write_tiny_clip(tmp_path, config=tiny_config() | {"embed_dim": 20})
    with pytest.raises(ValueError, match=r"rows of the image tower's length, 20 for 'tiny.*'. Got 24"):
        PromptedClassifier(prompt=prompt, image={"model": wider[0], "pretrained": wider[1]})


# ---- property 5: however a step is computed, it is the same step -----------------------------------------------------


class Pairs(torch.utils.data.Dataset):
    """Six images, as the loader gives them."""

    metainfo: dict[str, Any] = {"classes": tuple(VOCABULARY), "base_classes": tuple(VOCABULARY), "novel_classes": ()}

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {key: value[index] for key, value in batch().items()}


@pytest.fixture
def step(tiny_clip: Clip, tmp_path: Path) -> Callable[..., torch.Tensor]:
    """The context after one step of SGD on all six images, by a real Runner."""

    def run(wrapper: Any = None, batch_size: int = 6, autocast: bool = False) -> torch.Tensor:
        model = build(tiny_clip).train()
        if autocast:
            model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)  # type: ignore[method-assign]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        with mock.patch("mmengine.visualization.Visualizer._initialize_fig", return_value=[mock.MagicMock()] * 3):
            runner = Runner(
                model=model,
                work_dir=str(tmp_path / f"{batch_size}{autocast}"),
                train_dataloader={
                    "dataset": Pairs(),
                    "batch_size": batch_size,
                    "sampler": {"type": "DefaultSampler", "shuffle": False},
                    "collate_fn": {"type": "default_collate"},
                },
                train_cfg={"type": "subpt_dense.RewindingTrainLoop", "max_epochs": 1},
                optim_wrapper=(wrapper or OptimWrapper)(optimizer=optimizer)
                if not isinstance(wrapper, dict)
                else OptimWrapper(optimizer=optimizer, **wrapper),
                default_hooks={"logger": None, "timer": None, "checkpoint": None, "sampler_seed": None},
                experiment_name=f"step{id(model)}",
                log_level="ERROR",
            )
        runner.train()
        return model.prompt.context.detach() - model.prompt.initial_context

    return run


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_accumulated_steps_are_the_whole_step(step: Any, parts: int) -> None:
    whole, moved = step(), step({"accumulative_counts": parts}, batch_size=6 // parts)
    assert whole.norm() > 1e-4
    assert (moved - whole).norm() <= 1e-5 * whole.norm()


def test_scaled_losses_give_the_same_step(step: Any) -> None:
    whole, moved = step(), step(ScaledWrapper)
    assert (moved - whole).norm() <= 1e-5 * whole.norm()


def test_autocast_gives_the_same_step(step: Any) -> None:
    """The tower, the rows and the cosine compute in float32 whatever autocast says."""
    whole, moved = step(), step(ScaledWrapper, autocast=True)
    assert (moved - whole).norm() <= 1e-5 * whole.norm()

import copy

import pytest
import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from subpt_dense.heads import PromptedModel, TextClassifier
from subpt_dense.prompts import PromptHead

BASE = ("cat", "dog")
ALL = ("cat", "dog", "wolf")


class Plain(BaseModel):
    """A host: two classifiers, as in a cascade, and a class count of its own."""

    def __init__(self, stages: int = 2) -> None:
        super().__init__()
        self.stages = nn.ModuleList(TextClassifier(6, embed_dim=24) for _ in range(stages))
        self.num_classes = 80

    def forward(self, x: Tensor, mode: str = "tensor") -> list[Tensor]:
        self.hand_out_rows()
        return [stage(x) for stage in self.stages]


class Prompted(PromptedModel, Plain):
    def _set_num_classes(self, num_classes: int) -> None:
        self.num_classes = num_classes


@pytest.fixture
def prompt(tiny_clip) -> dict:
    anchor = {"type": "subpt_dense.TextAnchor", "names": ["lynx"], "templates": "single"}
    text = {"model": tiny_clip[0], "pretrained": tiny_clip[1]}
    return {"type": "subpt_dense.ContextPrompt", "text": text, "length": 2, "anchors": [anchor], "vocabulary": BASE}


def test_rows_are_encoded_once_and_shared(prompt):
    model = Prompted(prompt=prompt, stages=3)
    rows = model.hand_out_rows()
    assert rows.shape == (2, 24) and rows.requires_grad
    assert all(stage.rows is rows for stage in model.stages)


def test_step(prompt):
    model = Prompted(prompt=prompt)
    logits = model(torch.randn(4, 6))
    losses = model.prompt_losses()
    assert list(losses) == ["loss_nfl"]
    (sum(x.logsumexp(1).mean() for x in logits) + losses["loss_nfl"]).backward()
    assert model.prompt.context.grad.abs().sum() > 0


def test_vocabulary_changes_everywhere(prompt):
    model = Prompted(prompt=prompt).eval()
    assert model(torch.randn(4, 6))[0].shape == (4, 3)
    model.set_vocabulary(ALL)
    assert model.prompt.vocabulary == ALL and model.num_classes == 3
    with pytest.raises(RuntimeError, match="has no rows"):
        model.stages[0](torch.randn(4, 6))
    assert [x.shape for x in model(torch.randn(4, 6))] == [(4, 4)] * 2
    assert model.hand_out_rows() is model.hand_out_rows()


def test_refused_vocabulary_leaves_the_model_alone(prompt):
    model = Prompted(prompt=prompt).eval()
    model.set_vocabulary(BASE)
    model.hand_out_rows()
    with pytest.raises(ValueError, match="distinct"):
        model.set_vocabulary(("cat", "cat"))
    assert model.prompt.vocabulary == BASE and model.num_classes == 2 and model.stages[0].rows is not None


def test_nothing_adapted(prompt):
    with pytest.raises(RuntimeError, match="Nothing adapted: no module of Prompted takes rows"):
        Prompted(prompt=prompt, stages=0).hand_out_rows()


def test_host_must_set_its_class_counts(prompt):
    class Unfinished(PromptedModel, Plain):
        pass

    with pytest.raises(NotImplementedError, match=r"Unfinished must implement `_set_num_classes\(num_classes\)`"):
        Unfinished(prompt=prompt).set_vocabulary(ALL)


def test_conditional_heads_are_refused(prompt):
    model = Prompted(prompt=prompt)
    model.prompt.conditional = True
    with pytest.raises(RuntimeError, match=r"ContextPrompt gives rows per image \[B, K, D\], which Prompted cannot"):
        model.hand_out_rows()


def test_prompt_must_be_a_prompt_head(prompt):
    built = Prompted(prompt=prompt).prompt
    assert isinstance(built, PromptHead) and Prompted(prompt=built).prompt is built
    with pytest.raises(TypeError, match="`prompt` of Prompted must be a PromptHead or its config. Got Linear"):
        Prompted(prompt=nn.Linear(1, 1))


def test_copy_in_the_middle_of_a_step(prompt):
    model = Prompted(prompt=prompt)
    x = torch.randn(4, 6)
    logits = model(x)
    twin = copy.deepcopy(model)
    torch.testing.assert_close(twin(x), logits)
    assert twin.prompt is not model.prompt and twin.stages[0].rows is not model.stages[0].rows


def test_host_initialisation_and_state_dict_pass_the_prompt_by(prompt):
    model = Prompted(prompt=prompt)
    context = model.prompt.context.detach().clone()
    model.init_weights()
    assert torch.equal(model.prompt.context, context)
    model.hand_out_rows()
    keys = [key for key in model.state_dict() if not key.startswith("stages.")]
    assert keys == ["prompt.context", "prompt.initial_context"]

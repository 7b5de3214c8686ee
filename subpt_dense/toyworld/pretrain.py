"""Trains a tiny CLIP on caption-image pairs of the toy world: ``python -m subpt_dense.toyworld.pretrain --seed 0``.

The contrastive loss of Radford et al. (2021), on one thread. A batch holds each concept at most once, so there are no
false negatives among the full captions.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import open_clip
import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from subpt_dense.toyworld.captions import all_words, caption
from subpt_dense.toyworld.clip import ASSETS, MODEL_NAME, record_checksums, save_compact
from subpt_dense.toyworld.concepts import GROUNDS, all_concepts, class_split
from subpt_dense.toyworld.crops import render_crops

_MAX_SCALE = 60.0


def normalise(images: Tensor) -> Tensor:
    """uint8 ``[N, 3, H, W]`` to the float input of the image tower: mean 0.5, std 0.25."""
    return ((images.float() / 255 - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)


class _Words:
    """CLIP's tokenizer over the words of the toy world, with consecutive ids so that the embedding stays small.

    The order of the ids is kept, hence end-of-text stays the largest and open_clip's pooling finds it.
    """

    def __init__(self) -> None:
        self.tokenizer = open_clip.get_tokenizer(MODEL_NAME)
        known = self.tokenizer([*all_words(), *(word + "." for word in all_words())])
        self.ids = known.unique()  # 0 is the padding

    def __call__(self, texts: list[str]) -> Tensor:
        tokens = self.tokenizer(texts)
        compact = torch.searchsorted(self.ids, tokens)
        if not torch.equal(self.ids[compact.clamp(max=len(self.ids) - 1)], tokens):
            raise ValueError(f"A text holds words outside the toy world: {texts}")
        return compact


def encode_texts(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Unit features ``[N, D]``, in four groups of like length, each cut after its longest end-of-text (which is
    exact)."""
    lengths = tokens.argmax(dim=1) + 1
    order = lengths.argsort()
    features = []
    for rows in order.chunk(4):
        longest = int(lengths[rows].max())
        x = model.token_embedding(tokens[rows, :longest]) + model.positional_embedding[:longest]
        x = model.transformer(x, attn_mask=model.attn_mask[:longest, :longest])
        features.append(model.ln_final(x[torch.arange(len(rows)), lengths[rows] - 1]) @ model.text_projection)
    return nn.functional.normalize(torch.cat(features)[order.argsort()], dim=-1)


def build_model(words: _Words) -> open_clip.CLIP:
    """A randomly initialised tiny CLIP whose token embedding holds the toy world's words only."""
    model = open_clip.create_model(MODEL_NAME)
    width = model.token_embedding.embedding_dim
    model.token_embedding = nn.Embedding(len(words.ids), width)
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    model.visual.to(memory_format=torch.channels_last)
    return model


@torch.no_grad()
def zero_shot(model: open_clip.CLIP, words: _Words, split_seed: int = 0, per_class: int = 40) -> tuple[float, float]:
    """Accuracy in percent on fresh crops of the base and the novel classes, each among its own group's names."""
    model.eval()
    scores = []
    for group in class_split(split_seed):
        rows = encode_texts(model, words([f"a photo of a {concept.name}." for concept in group]))
        labels = torch.arange(len(group)).repeat_interleave(per_class)
        images = render_crops(torch.tensor(group)[labels], seed=10**9 + split_seed)
        features = torch.cat([model.encode_image(normalise(part)) for part in images.split(128)])
        scores.append(100 * (features @ rows.T).argmax(1).eq(labels).float().mean().item())
    return scores[0], scores[1]


def _batch(size: int, seed: int, rng: random.Random) -> tuple[Tensor, list[str]]:
    concepts = rng.sample(all_concepts(), size)
    grounds = [rng.randrange(len(GROUNDS)) for _ in concepts]
    images = render_crops(torch.tensor(concepts), seed, ground=torch.tensor(grounds))
    names = tuple(GROUNDS)
    mirrored = torch.tensor([rng.random() < 0.5 for _ in concepts])
    images[mirrored] = images[mirrored].flip(-1)
    return images, [caption(rng, concept, names[ground]) for concept, ground in zip(concepts, grounds, strict=True)]


def pretrain(seed: int, steps: int, batch: int, lr: float, out: Path) -> None:
    """Train and write compact weights to ``out``; the file is renewed every 250 steps."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rng, logger = random.Random(seed), MMLogger.get_instance("pretrain", log_level="INFO")
    words = _Words()
    model = build_model(words)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    warmup = 50
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda i: min(1.0, (i + 1) / warmup) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, i / steps)))),
    )
    start, target = time.process_time(), torch.arange(batch)
    for step in range(1, steps + 1):
        images, texts = _batch(batch, seed * 10**8 + step, rng)
        model.train()
        features = nn.functional.normalize(model.visual(normalise(images)), dim=-1)
        scale = model.logit_scale.exp().clamp(max=_MAX_SCALE)
        logits = scale * features @ encode_texts(model, words(texts)).T
        loss = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            spent = (time.process_time() - start) / 60
            left = spent * (steps / step - 1)
            logger.info(
                f"step {step}/{steps} loss {loss.item():.3f} scale {scale.item():.1f} "
                f"cpu {spent:.1f} min, {left:.1f} left"
            )
        if step % 250 == 0 or step == steps:
            base, novel = zero_shot(model, words)
            logger.info(f"zero-shot base {base:.1f} novel {novel:.1f}")
            recipe = {"seed": seed, "steps": step, "of": steps, "batch": batch, "lr": lr, "zero_shot": [base, novel]}
            recipe |= {"torch": torch.__version__, "cpu_minutes": round((time.process_time() - start) / 60, 1)}
            model.logit_scale.data.clamp_(max=math.log(_MAX_SCALE))
            save_compact(out, model.state_dict(), words.ids, recipe)


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=128, help="pairs a step; at most 640")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, help="compact weights; by default the shipped file of this seed")
    args = parser.parse_args()
    out = args.out or ASSETS / f"clip_seed{args.seed}.safetensors"
    pretrain(args.seed, args.steps, args.batch, args.lr, out)
    if out.parent.resolve() == ASSETS.resolve():
        record_checksums()
    MMLogger.get_instance("pretrain").info(json.dumps({"wrote": out.name}))


if __name__ == "__main__":
    main()

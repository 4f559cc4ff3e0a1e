"""Recipe step that trains and labels a sparse autoencoder for each scout layer."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ...router.features.label import label_features, save_labels
from ...router.features.sae import SAE
from ...router.features.train import train_topk
from ...router.fingerprint import fingerprint
from ...router.taps import Taps
from ..improve.answering import batches
from ..lean import LeanDecoder
from ..tokenizing import ChatCodec
from . import corpus, makers, probing
from .skills.example import Example
from .work import Work

LATENTS, ACTIVE, STEPS = 1024, 24, 1200
STORED = "bfloat16"
WINDOW = 6
SETTINGS = (LATENTS, ACTIVE, STEPS, STORED)


@torch.inference_mode()
def token_states(
    model: LeanDecoder | PreTrainedModel, codec: ChatCodec, texts: Sequence[str], layer: int
) -> tuple[Tensor, list[str]]:
    """Read every token's state at ``layer``: [M, D], with the words around each token as its context."""
    encoded = [codec.encode_text(text)[:128] for text in texts]
    states, contexts = [], []
    with Taps(model, (layer,)) as taps:
        for group in batches([len(e) for e in encoded], 32):
            ids = torch.tensor([encoded[i] for i in group])
            if ids.shape[1] < 2:
                continue
            model(input_ids=ids, use_cache=False, logits_to_keep=1)
            states.append(taps.states[layer][:, 1:].flatten(0, 1).clone())
            contexts += [window(codec, row, t) for row in ids.tolist() for t in range(1, len(row))]
    return torch.cat(states), contexts


def window(codec: ChatCodec, row: Sequence[int], place: int) -> str:
    """The text up to and including a token, which is all that its state can know."""
    return codec.decode(row[max(0, place - WINDOW) : place + 1]).strip()


def plain_texts(work: Work, count: int) -> list[str]:
    """Texts of the kind the trunk reads: teacher stories, answers and prompts of every skill."""
    tales = (work.sources / "stories.txt").read_text().split(corpus.STORY_BREAK)
    texts = random.Random(work.seed).sample([t.strip() for t in tales if len(t) > 80], count // 2)
    for skill in makers.COURSES:
        rows = corpus.draw(skill, "train", count // 12, work.seed + 3, work.sources)
        texts += [f"{row.prompt} {row.answer}" for row in rows]
    return texts


def make_features(work: Work) -> None:
    """Train an SAE a scout layer on pooled prompt states and token states, label its features, save both."""
    model, codec = makers.open_trunk(work)
    rows: list[Example] = probing.probe_mixture(work, "fit")
    texts, layers = plain_texts(work, 1200), probing.scout_layers(work)
    for layer, pooled in probing.pooled_states(model, codec, rows, layers).items():
        tokens, contexts = token_states(model, codec, texts, layer)
        _make_sae(work, layer, pooled, [e.prompt for e in rows], tokens, contexts)


def _make_sae(
    work: Work, layer: int, pooled: Tensor, prompts: list[str], tokens: Tensor, contexts: list[str]
) -> None:
    """One layer's SAE, from pooled states [N, 2 D] and tokens' states [M, D], with what names them."""
    halves = pooled.reshape(2 * len(pooled), -1)
    meta = {
        "layer": layer,
        "fingerprint": fingerprint(work.path("trunk")),
        "model_name": "pilothouse/starter-trunk",
    }

    def tell(step: int, unexplained: float, dead: int) -> None:
        work.say(f"SAE of layer {layer}, step {step}/{STEPS}: unexplained {unexplained:.3f}, dead {dead}")

    every = torch.cat([halves, halves, tokens])
    sae = train_topk(every, LATENTS, ACTIVE, STEPS, work.seed, meta=meta, report=tell)
    folder = work.path("features", f"L{layer}")
    sae.save(folder, STORED)
    shown = torch.cat([pooled[:, : pooled.shape[1] // 2], tokens[:40_000]])
    save_labels(folder / "labels.jsonl", label_features(sae, shown, [*prompts, *contexts[:40_000]]))


def open_sae(work: Work) -> SAE:
    """Load the SAE of the last scout layer."""
    return SAE.load(work.path("features", f"L{max(probing.scout_layers(work))}"))

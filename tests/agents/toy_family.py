"""A tiny real family: a toy trunk trained for seconds, two random adapters, the cards, and fitted probes."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from transformers import Qwen3Config, Qwen3ForCausalLM

from pilothouse.router.features.label import Label, save_labels
from pilothouse.router.features.train import train_topk
from pilothouse.router.policy import OutOfDistribution, Policy, SteeringRule
from pilothouse.router.probes.calibrate import Platt
from pilothouse.router.probes.fit import fit_logistic
from pilothouse.router.probes.probe import Probe
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.router.taps import Site
from pilothouse.specialists import integrity
from pilothouse.specialists.adapters import Adapter, LowRank, linear_maps, save_adapter, shape_of
from pilothouse.specialists.card import Card
from pilothouse.specialists.engines.torch import TorchEngine
from pilothouse.specialists.family import Family
from pilothouse.specialists.starter.tokenizer import save_tokenizer, train_tokenizer
from pilothouse.specialists.toml import dumps
from pilothouse.store.records import Message

LAYERS = (1, 2)
SITE = Site(LAYERS, ("last", "max_rolling_mean"))
THINGS = ("dog", "cat", "house", "river", "mountain", "garden", "window", "teacher", "bottle", "spoon")


def toy_prompts(kind: str, count: int, seed: int) -> list[str]:
    """Prompts of one kind: `sums`, `words`, `about`, or `outside`, which nobody can answer."""
    rng = random.Random(f"{kind}{seed}")

    def a() -> int:
        return rng.randint(0, 99)

    def b() -> str:
        return rng.choice(THINGS)

    def prompts() -> list[str]:
        return {
            "sums": [f"What is {a()} + {a()}?", f"{a()} - {a()}", f"Compute {a()} + {a()}."],
            "words": [f"What is the plural of {b()}?", f"Spell {b()}.", f"Translate {b()}."],
            "about": ["What can you do?", "Hello", "Hi there", "Who are you?"],
            "outside": ["".join(rng.choice("zqxjkvwy#@%&") for _ in range(rng.randint(6, 40)))],
        }[kind]

    return [rng.choice(prompts()) for _ in range(count)]


ANSWERS = {
    "sums": "The sum of the two numbers is ready for you.",
    "words": "The word you ask about is ready for you now.",
}


class Tiny(NamedTuple):
    """The family's folder and a loaded engine that tests share."""

    folder: Path
    engine: TorchEngine

    @property
    def family(self) -> Family:
        return self.engine.family


def make_trunk(folder: Path) -> Qwen3ForCausalLM:
    """A random trunk with a tokenizer of its own."""
    texts = [p for kind in ("sums", "words", "about") for p in toy_prompts(kind, 60, 0)] + [
        *ANSWERS.values()
    ] * 9
    tokenizer = train_tokenizer(texts, 384)
    config = Qwen3Config(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=64,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=3,
        pad_token_id=0,
    )
    torch.manual_seed(7)
    model = Qwen3ForCausalLM(config)
    teach(model, tokenizer)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return model


def teach(model: Qwen3ForCausalLM, tokenizer: Tokenizer) -> None:
    """Teach the trunk its two toy answers: a few seconds."""
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for step in range(120):
        kind = ("sums", "words")[step % 2]
        rows = [f"<|user|>{p}<|end|><|assistant|>{ANSWERS[kind]}<|end|>" for p in toy_prompts(kind, 12, step)]
        codes = [tokenizer.encode(row).ids for row in rows]
        width = max(map(len, codes))
        ids = torch.tensor([code + [0] * (width - len(code)) for code in codes])
        loss = model(input_ids=ids, labels=ids.masked_fill(ids == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def make_adapter(model: Qwen3ForCausalLM, name: str, folder: Path) -> None:
    """A random adapter, weak enough to leave the trunk's answers whole."""
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    products = {}
    for target, module in linear_maps(model).items():
        outputs, inputs = shape_of(module)
        a, b = torch.randn(4, inputs, generator=generator), torch.randn(outputs, 4, generator=generator)
        products[target] = LowRank(a * 0.02, b * 0.02)
    save_adapter(Adapter(name, products, 4, (2,)), 4.0, "trunk", folder)


def make_probes(folder: Path, family: Family) -> None:
    """Fit P(correct) and one reading on the trunk's real states."""
    engine = TorchEngine(family, "cpu", verify=False)
    vectors, kinds, states = [], [], []
    for kind in ("sums", "words", "about", "outside"):
        for prompt in toy_prompts(kind, 50, 1):
            tokens = engine.encode_chat([Message(role="user", content=prompt)])
            found = engine.probe(tokens, LAYERS).states
            vectors.append(SITE.vector(found))
            states.append(found[2])
            kinds.append(kind)
    x = torch.stack(vectors)
    for name in ("sums", "words", "about", "outside"):
        y = torch.tensor([float(kind == name) for kind in kinds])
        weight, bias = fit_logistic(x, y, l2=1e-3)
        score = x.double() @ weight.double() + bias
        sort = "reading" if name == "outside" else "correct"
        probe = Probe(
            name, sort, weight, float(bias), Platt.fit(score, y), 0.5, SITE, family.trunk_fingerprint
        )
        probe.save(folder / "probes" / f"{sort}-{name}")
    meta = {"layer": 2, "fingerprint": family.trunk_fingerprint, "model_name": "tiny"}
    sae = train_topk(torch.cat(states), 64, 6, 150, 0, meta=meta)
    sae.save(folder / "features" / "layer2")
    labels = [Label(feature=i, text=f"toy {i}") for i in range(64)]
    save_labels(folder / "features" / "layer2" / "labels.jsonl", labels)
    engine.close()


def make_vector(folder: Path, fingerprint: str) -> None:
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    vector = SteeringVector("push", "add", 1, 0.5, "generation", direction, fingerprint=fingerprint)
    vector.save(folder / "vectors" / "push")


def make_family(folder: Path) -> Path:
    """Write the whole family."""
    trunk = make_trunk(folder / "trunk")
    fingerprint = integrity.model_fingerprint(folder / "trunk")
    settings = {
        "name": "tiny",
        "trunk": "trunk",
        "trunk_fingerprint": fingerprint,
        "scout_layers": list(LAYERS),
        "specialists": ["sums", "words", "about"],
    }
    (folder / "family.toml").write_text(dumps(settings))
    for name, kind, example in (
        ("sums", "adapter", "What is 3 + 4?"),
        ("words", "adapter", "What is the plural of dog?"),
        ("about", "cards", "What can you do?"),
    ):
        card = Card(
            name=name,
            kind=kind,  # type: ignore[arg-type]
            title=f"The {name}",
            description=f"Answers {name}",
            examples=(example,),
            parent_sha256=fingerprint,
            max_tokens=64,
        )
        card.save(folder / "specialists" / name)
        if kind == "adapter":
            make_adapter(trunk, name, folder / "specialists" / name)
    make_probes(folder, Family.open(folder))
    make_vector(folder, fingerprint)
    Policy(
        lam=0.01,
        threshold=0.5,
        steering=(SteeringRule(reading="outside", vector="push", specialists=("words",)),),
        ood=OutOfDistribution(reading="outside"),
    ).save(folder / "policy.json")
    integrity.seal(folder)
    return folder

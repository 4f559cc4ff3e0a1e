"""ShifCon's shift: identities that must be exact, the contrastive loss at its ends, and a step that writes
it.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3ForCausalLM

from pilothouse.router.fingerprint import fingerprint
from pilothouse.router.locate.anatomy import Anatomy
from pilothouse.router.locate.languages import clouds
from pilothouse.router.steer.runtime import Steering
from pilothouse.router.steer.vector import SteeringVector
from pilothouse.specialists.improve.align import (
    Band,
    Shift,
    _cases,
    contrast,
    language_vectors,
    loss_layers,
    padded,
    pair_loss,
    pooled,
    shared_band,
    watched,
)
from pilothouse.specialists.improve.data import made
from pilothouse.specialists.improve.step import Context, Made, Plan, step_of
from pilothouse.specialists.models import load_model_folder
from pilothouse.store.errors import UsageError

ROWS = {
    "en": [tuple(range(4 + i, 12 + i)) for i in range(5)],
    "de": [tuple(range(60 + 2 * i, 67 + i)) or (60, 61) for i in range(5)],
}
IDS = torch.tensor([[5, 9, 14, 33, 8], [70, 71, 90, 12, 6]])


def deeper(folder: Path, layers: int = 4) -> Any:
    """The tiny model's shape with more layers."""
    config = Qwen3ForCausalLM.from_pretrained(folder).config
    config.num_hidden_layers, config.layer_types = layers, ["full_attention"] * layers
    torch.manual_seed(1)
    return Qwen3ForCausalLM(config).eval()


@pytest.fixture
def model(tiny_folder: Path) -> Any:
    return deeper(tiny_folder).requires_grad_(False)


def test_a_shift_and_its_way_back_at_one_layer_change_nothing(model: Any) -> None:
    vectors, before = language_vectors(model, ROWS), model(IDS).logits
    with Shift(model, vectors, "en", Band(2, 2)) as shift:
        shift.say("de")
        torch.testing.assert_close(model(IDS).logits, before, atol=1e-5, rtol=0)


def test_the_dominant_language_keeps_its_bits(model: Any) -> None:
    vectors, before = language_vectors(model, ROWS), model(IDS).logits
    with Shift(model, vectors, "en", Band(1, 2)) as shift:
        assert torch.equal(model(IDS).logits, before), "nothing is named yet"
        shift.say("en")
        assert torch.equal(model(IDS).logits, before)
        shift.say("de")
        assert (model(IDS).logits - before).abs().max() > 1e-3
        shift.say("en", "de")
        mixed = model(IDS).logits
        torch.testing.assert_close(mixed[0], before[0])
        assert (mixed[1] - before[1]).abs().max() > 1e-3
    assert torch.equal(model(IDS).logits, before), "nothing stays behind"


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_shift_closes_the_gap_of_its_own_sentences(model: Any, layer: int) -> None:
    vectors = language_vectors(model, ROWS)
    band = Band(layer, 3)
    means = []
    with Shift(model, vectors, "en", band) as shift:
        for name in ("en", "de"):
            shift.say(name)
            states = []
            for ids in ROWS[name]:
                # watched after the shift: hooks run in the order they were set
                with watched(model, [layer]) as seen:
                    model(torch.tensor([ids]))
                states.append(pooled(seen[layer], torch.ones(1, len(ids), dtype=torch.long)))
            means.append(torch.cat(states).mean(0))
    torch.testing.assert_close(means[0], means[1], atol=1e-5, rtol=1e-4)
    assert (vectors["en"][layer] - vectors["de"][layer]).norm() > 0.01


def test_pooling_leaves_padding_and_the_first_token_out(model: Any) -> None:
    rows = [ROWS["en"][0], ROWS["de"][0][:3], (7,)]
    ids, mask = padded(rows)
    with watched(model, [1]) as seen:
        model(input_ids=ids, attention_mask=mask)
    found = pooled(seen[1], mask)
    stacked = clouds(Anatomy.of(model), _cases({"en": ROWS["en"], "de": ROWS["de"]}))
    torch.testing.assert_close(found[0], stacked["en"][0, 1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[2], seen[1][2, 0])


@pytest.mark.parametrize("batch", [2, 5, 16])
def test_contrast_is_chance_without_scale_and_nothing_when_aligned(batch: int) -> None:
    generator = torch.Generator().manual_seed(batch)
    e, t = torch.randn(2, batch, 32, generator=generator)
    assert float(contrast(e, t, 0.0)) == pytest.approx(math.log(batch))
    assert float(contrast(e, t, 1.0)) == pytest.approx(math.log(batch), abs=0.5)
    away = torch.randn(32, generator=generator)
    spread = torch.nn.functional.normalize(e, dim=-1)
    assert float(contrast(spread, spread, 200.0)) < 1e-3
    assert float(contrast(spread, spread + 0.01 * away, 200.0)) < 1e-2
    assert float(contrast(e, e.roll(1, 0), 200.0)) > 1, "pairs that do not belong together"


def test_recentring_forgives_what_the_shift_will_do() -> None:
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(8, 16, generator=generator)
    t = torch.nn.functional.normalize(e, dim=-1)
    # all translations lie apart in one direction
    t = t + 3 * torch.nn.functional.normalize(torch.randn(16, generator=generator), dim=0)
    assert contrast(e, t, 10.0) < contrast(e, t, 10.0, recentre=False)


def test_recentring_changes_only_the_choice_among_the_dominant_sentences() -> None:
    generator = torch.Generator().manual_seed(0)
    e, t = torch.nn.functional.normalize(torch.randn(2, 6, 16, generator=generator), dim=-1)
    right = torch.arange(6)
    there = 4 * e @ t.T
    centred = 4 * e @ (t - t.mean(0) + e.mean(0)).T
    rows, columns = (
        [float(torch.nn.functional.cross_entropy(one, right)) for one in pair]
        for pair in ((there, centred), (there.T, centred.T))
    )
    assert rows[0] == pytest.approx(rows[1], abs=1e-5)
    change = float(contrast(e, t, 4.0)) - float(contrast(e, t, 4.0, recentre=False))
    assert change == pytest.approx((columns[1] - columns[0]) / 2, abs=1e-5)
    assert abs(change) > 1e-3


def test_methods_choose_their_layers() -> None:
    band = Band(1, 4)
    assert loss_layers("shifcon", band) == (1, 2, 3)
    assert loss_layers("contrast", Band(2, 2)) == (2,)
    assert loss_layers("afp", band) == (0,)
    assert loss_layers("msft", band) == loss_layers("shift", band) == ()


def test_the_pair_loss_moves_translations_together(tiny_folder: Path) -> None:
    model = deeper(tiny_folder)
    layers = (1, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = pair_loss(model, ROWS["en"], ROWS["de"], layers, 10.0)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


def test_both_sides_in_one_pass_lose_what_they_lose_alone(model: Any) -> None:
    ours, theirs = ROWS["en"], [row[:3] for row in ROWS["de"]]
    losses = []
    for at in (1, 2):
        means = []
        for rows in (ours, theirs):
            with watched(model, [at]) as seen:
                model(torch.tensor(rows))
            means.append(pooled(seen[at], torch.ones(len(rows), len(rows[0]), dtype=torch.long)))
        losses.append(float(contrast(means[0], means[1], 10.0)))
    assert float(pair_loss(model, ours, theirs, (1, 2), 10.0)) == pytest.approx(sum(losses) / 2, abs=1e-4)


def test_bands_and_languages_that_are_not_there_are_refused(model: Any) -> None:
    vectors = language_vectors(model, ROWS)
    with pytest.raises(UsageError, match="band 3 to 9"):
        Shift(model, vectors, "en", Band(3, 9))
    with pytest.raises(UsageError, match="dominant language 'fr'"):
        Shift(model, vectors, "fr", Band(0, 1))
    with pytest.raises(UsageError, match="'fr' has no vector"):
        Shift(model, vectors, "en", Band(0, 1)).say("fr")
    band, distances = shared_band(model, ROWS, "en", 0.5)
    assert len(distances) == 4
    assert band.last - band.first == 1
    best = min(range(3), key=lambda i: sum(distances[i : i + 2]))
    assert band.first == best


PAIRS = [
    ("The boat is small.", "la barca"),
    ("The river", "il rio grande"),
    ("The capital", "una capital"),
] * 2


def context(tmp_path: Path, folder: Path) -> Context:
    rows = [{"prompt": "Say hello", "answer": "hola", "language": "es"}] * 3
    rows += [{"prompt": "Say boat", "answer": "boat", "language": "en"}] * 3
    pairs = [{"text": t, "pivot": p, "language": "es"} for p, t in PAIRS]
    data = {"rows": made("rows", rows, "own", "test"), "pairs": made("pairs", pairs, "own", "test")}
    start = Made("trunk", "model", folder, fingerprint(folder))
    return Context(tmp_path / "work", tmp_path / "out", 1, (start,), start, data)


@pytest.mark.parametrize("method", ["shifcon", "msft", "afp"])
def test_the_align_step_trains_and_writes_the_shift(method: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    deeper(tiny_folder).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((tiny_folder / name).read_bytes())
    step, ctx = step_of("align"), context(tmp_path, folder)
    settings = step.settings(
        data="rows", pairs="pairs", method=method, band=(1, 2), steps=3, rows=2, pair_rows=3, rate=1e-3
    )
    step.check(settings, Plan(("model",), ctx.data))
    figures = step.run(settings, ctx)
    assert figures["band"] == [1, 2]
    assert math.isfinite(figures["loss"])
    model = load_model_folder(ctx.out)
    if method != "shifcon":
        assert not (ctx.out / "vectors").exists()
        return
    told = json.loads((ctx.out / "vectors" / "shift.json").read_text())
    assert told == {"dominant": "en", "first": 1, "last": 2}
    loaded = [SteeringVector.load(ctx.out / "vectors" / f"shift-es-{way}") for way in ("to", "back")]
    words = {"en": [ctx_row(folder, p) for p, _ in PAIRS], "es": [ctx_row(folder, t) for _, t in PAIRS]}
    words["en"] = list(dict.fromkeys(words["en"]))
    trained_under = language_vectors(load_model_folder(folder), words)
    with Shift(model, trained_under, "en", Band(1, 2)) as shift:  # not the tuned model's own
        shift.say("es")
        wanted = model(IDS).logits
    with torch.no_grad(), Steering(model, loaded):
        torch.testing.assert_close(model(IDS).logits, wanted, atol=1e-3, rtol=1e-3)


def ctx_row(folder: Path, text: str) -> tuple[int, ...]:
    from pilothouse.specialists.tokenizing import ChatCodec

    return tuple(ChatCodec.load(folder).encode_prompt(text))


def test_impossible_alignments_are_refused(tmp_path: Path, tiny_folder: Path) -> None:
    step, ctx = step_of("align"), context(tmp_path, tiny_folder)
    with pytest.raises(UsageError, match="pivot"):
        step.check(step.settings(data="rows", pairs="pairs", dominant="es"), Plan(("model",), ctx.data))
    with pytest.raises(UsageError, match="lacks the column 'text'"):
        step.check(step.settings(data="rows", pairs="rows"), Plan(("model",), ctx.data))

"""The native decoder against Hugging Face's: every kind of model, of weights and of instructions."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from byte_groups import in_bytes
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pilothouse.kernels.quant import Quantized, dequantize
from pilothouse.kernels.steer import SteerTables, steer
from pilothouse.router.steer.vector import Encoder, Gate, SteeringVector
from pilothouse.specialists.adapters import Adapter, LowRank
from pilothouse.specialists.engines.base import Head
from pilothouse.specialists.engines.native import library as lib
from pilothouse.specialists.engines.native import model as native_model
from pilothouse.specialists.engines.native.model import MAPS, Context, NativeModel
from pilothouse.specialists.engines.native.plans import plan_of
from pilothouse.specialists.engines.native.run import Run
from pilothouse.specialists.engines.native.weights import Stored, StoredFolder
from pilothouse.specialists.leanconfig import NotLean

VOCABULARY, WIDTH, INNER, LAYERS, PROMPT = 203, 48, 72, 2, 45
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "intermediate_size": INNER,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
}
KINDS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE)),
    "llama-biased": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True)),
    "qwen2-tied": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=24)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, head_dim=16, sliding_window=None)),
}
IDS = torch.randint(0, VOCABULARY, (60,), generator=torch.Generator().manual_seed(1)).tolist()


@pytest.fixture(scope="module", params=lib.kernels())
def context(request: pytest.FixtureRequest) -> Context:
    return Context(1, request.param)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder a kind, with norms and biases that matter."""
    found = {}
    for name, make in KINDS.items():
        torch.manual_seed(0)
        model = make()
        for key, parameter in model.named_parameters():
            if key.endswith("bias") or "norm" in key:
                parameter.data.normal_(1.0 if "norm" in key else 0.0, 0.3)
        found[name] = tmp_path_factory.mktemp("native") / name
        model.save_pretrained(found[name])
    return found


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> Callable[[str, torch.dtype], PreTrainedModel]:
    def load(name: str, dtype: torch.dtype) -> PreTrainedModel:
        """The reference in fp32, with weights rounded to `dtype`; never its rotary tables."""
        kind = type(KINDS[name]())
        model: PreTrainedModel = kind.from_pretrained(folders[name], dtype=torch.float32)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype).float()
        return model.eval()

    return load


def logits_of(model: PreTrainedModel, count: int = len(IDS)) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(torch.tensor([IDS[:count]])).logits[0]
    return found


def walk(model: NativeModel) -> Iterator[tuple[int, Tensor]]:
    """The logits after the prompt, read at once, and after each of some tokens that follow one by one."""
    sequence = model.sequence()
    for begin, end in ((0, PROMPT), *((i, i + 1) for i in range(PROMPT, PROMPT + 4))):
        run = Run(sequence, IDS[begin:end], draw=True, want_logits=True)
        model.step([run])
        assert run.status == lib.OK
        assert run.logits is not None
        logprobs = run.logits.log_softmax(-1)
        assert run.token == int(run.logits.argmax())
        assert run.logprob == pytest.approx(float(logprobs.max()), abs=1e-4)
        yield end - 1, run.logits


def error(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_computes_what_hugging_face_computes(
    name: str,
    dtype: torch.dtype,
    context: Context,
    folders: dict[str, Path],
    plain: Callable[[str, torch.dtype], PreTrainedModel],
    tmp_path: Path,
) -> None:
    truth = logits_of(plain(name, dtype))
    plain(name, dtype).to(dtype).save_pretrained(tmp_path)
    model = NativeModel(context, tmp_path)
    assert model.kinds == {lib.F32 if dtype == torch.float32 else lib.BF16}
    for at, logits in walk(model):
        assert error(logits, truth[at]) < 1e-5


# -- quantized weights -------------------------------------------------------------------------------------


def rounded(weight: Tensor, bits: int, group: int) -> Quantized:
    """Round to nearest in `bits`, with the whole range of codes in use."""
    width, top = weight.shape[1], 2 ** (bits - 1) - 1
    parts = torch.nn.functional.pad(weight.float(), (0, -width % group)).view(weight.shape[0], -1, group)
    scales = parts.abs().amax(2) / top
    spread = scales.repeat_interleave(group, 1)[:, :width]
    codes = (weight.float() / spread).round().clamp(-top - 1, top).to(torch.int8)
    return Quantized(codes, scales, bits, group)


@pytest.fixture
def mixed(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, int]]:
    """Let folders be read with 8, 4, 3 and 2 bits and two group sizes mixed; {name: (bits, group)}."""
    names = ["model.embed_tokens", *(f"model.layers.{i}.{m}" for i in range(LAYERS) for m in MAPS)]
    plan = {f"{name}.weight": ((8, 4, 3, 2, 8)[i % 5], (32, 64)[i % 2]) for i, name in enumerate(names)}

    def quantized(folder: Path, precision: Any, group: int) -> dict[str, Stored | Tensor]:
        found = dict(StoredFolder(folder, precision, group))
        for name, (bits, columns) in plan.items():
            one = found[name]
            assert isinstance(one, Stored)
            q = rounded(one.dense(), bits, columns)
            found[name] = Stored(bits, q.codes, q.scales, columns)
        return found

    monkeypatch.setattr(native_model, "StoredFolder", quantized)
    return plan


def dequantized(model: PreTrainedModel, plan: dict[str, tuple[int, int]]) -> PreTrainedModel:
    state = model.state_dict()
    for name, (bits, group) in plan.items():
        state[name] = dequantize(rounded(state[name], bits, group))
        if name.startswith("model.embed"):
            state["lm_head.weight"] = state[name]
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(("parts", "most"), [(2, 2e-3), (1, 0.1)])
def test_quantized_weights_of_mixed_bits(
    parts: int,
    most: float,
    context: Context,
    folders: dict[str, Path],
    plain: Callable[[str, torch.dtype], PreTrainedModel],
    mixed: dict[str, tuple[int, int]],
) -> None:
    wanted = logits_of(dequantized(plain("qwen2-tied", torch.float32), mixed))
    assert error(wanted, logits_of(plain("qwen2-tied", torch.float32))) > 0.05, "rounding must matter"
    model = NativeModel(context, folders["qwen2-tied"], parts=parts)
    assert model.kinds == {8, 4, 3, 2}
    errors = [error(logits, wanted[at]) for at, logits in walk(model)]
    assert max(errors) < most
    assert parts == 2 or max(errors) > 2e-3, "8 bits of an activation are not 15"


def test_weights_come_back_as_the_codes_say(
    context: Context,
    folders: dict[str, Path],
    plain: Callable[[str, torch.dtype], PreTrainedModel],
    mixed: dict[str, tuple[int, int]],
) -> None:
    state = plain("qwen2-tied", torch.float32).state_dict()
    model = NativeModel(context, folders["qwen2-tied"])
    for name, index in MAPS.items():
        key = f"model.layers.1.{name}.weight"
        wanted = dequantize(rounded(state[key], *mixed[key]))
        found = model.weight(1, index, *wanted.shape)
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-6)  # scales are kept in 11 bits


# -- adapters ----------------------------------------------------------------------------------------------


def made_adapter(model: PreTrainedModel, rank: int = 5) -> Adapter:
    """A random adapter on every linear map."""
    draw = torch.Generator().manual_seed(4)

    def product(outputs: int, inputs: int) -> LowRank:
        a, b = torch.randn(rank, inputs, generator=draw), torch.randn(outputs, rank, generator=draw)
        return LowRank(a * inputs**-0.5, b * 0.3)

    names = [f"model.layers.{layer}.{name}" for layer in range(LAYERS) for name in MAPS]
    return Adapter("a", {n: product(*model.get_parameter(f"{n}.weight").shape) for n in names}, rank)


def test_beside_codes_adapters_are_bytes(
    context: Context,
    folders: dict[str, Path],
    plain: Callable[[str, torch.dtype], PreTrainedModel],
    mixed: dict[str, tuple[int, int]],
) -> None:
    truth = dequantized(plain("qwen2-tied", torch.float32), mixed)
    adapter, bare = made_adapter(truth), logits_of(truth)
    for name, product in adapter.products.items():
        # queries, keys and values share the activations of the first; so do gate and up
        first = {"k_proj": "q_proj", "v_proj": "q_proj", "up_proj": "gate_proj"}
        above, _, last = name.rpartition(".")
        group = mixed[f"{above}.{first.get(last, last)}.weight"][1]
        a, b = in_bytes(product.a, group), in_bytes(product.b, product.b.shape[1])
        truth.get_parameter(f"{name}.weight").data += b @ a
    wanted = logits_of(truth)
    assert error(wanted, bare) > 0.1, "the adapter must matter"
    model = NativeModel(context, folders["qwen2-tied"])
    assert model.adapter_kind == lib.BYTE
    taken = model.adapter(adapter)
    alone = Run(model.sequence(), IDS, taken, draw=True, want_logits=True)
    model.step([alone])
    assert alone.logits is not None
    assert error(alone.logits, wanted[-1]) < 2e-3
    others = [Run(model.sequence(), IDS[:n], None if n == 3 else taken) for n in (3, 1, 7)]
    again = Run(model.sequence(), IDS, taken, draw=True, want_logits=True)
    model.step([*others, again])
    assert again.logits is not None
    assert torch.equal(again.logits, alone.logits)


# -- many sequences ----------------------------------------------------------------------------------------


def test_rows_of_a_batch_have_the_bits_they_have_alone(context: Context, folders: dict[str, Path]) -> None:
    model = NativeModel(context, folders["qwen3"])

    def runs(lengths: tuple[int, ...]) -> list[Run]:
        return [
            Run(model.sequence(), IDS[i : i + n], want_logits=True, taps=(0,)) for i, n in enumerate(lengths)
        ]

    lengths = (7, 1, 13, 2, 33, 1, 1, 5, 3)
    together = runs(lengths)
    model.step(together)
    for index, run in enumerate(together):
        alone = runs(lengths)[index]
        model.step([alone])
        assert run.logits is not None
        assert alone.logits is not None
        assert torch.equal(run.logits, alone.logits)
        assert torch.equal(run.states[0], alone.states[0])


def drawn(model: NativeModel, most: int, lengths: tuple[int, ...], stops: Sequence[int]) -> list[list[Any]]:
    """What runs of these lengths draw, `most` a call: 11 tokens, or up to one of `stops`."""
    ended, found = array("i", stops), [list[Any]() for _ in lengths]
    runs = {
        i: Run(model.sequence(), IDS[i : i + n], draw=True, most=min(most, 11)) for i, n in enumerate(lengths)
    }
    while runs:
        model.step(list(runs.values()), ended)
        for i, run in list(runs.items()):
            assert run.status == lib.OK
            found[i] += run.drawn
            token, left = found[i][-1][0], 11 - len(found[i])
            assert run.sequence.length == lengths[i] + len(found[i]) - 1
            runs[i] = Run(run.sequence, [token], generation=True, draw=True, most=min(most, left))
            if token in stops or not left:
                del runs[i]
    return found


@pytest.mark.parametrize("lengths", [(5,), (7, 1, 13, 2, 33, 1, 1, 5, 3)])
def test_several_tokens_in_one_call_are_those_of_as_many_steps(
    context: Context, folders: dict[str, Path], lengths: tuple[int, ...]
) -> None:
    model = NativeModel(context, folders["qwen3"])
    plain = drawn(model, 1, lengths, ())
    assert all(len(row) == 11 for row in plain)
    for most in (2, 8, 20):
        assert drawn(model, most, lengths, ()) == plain
    stop = plain[0][4][0]
    cut = [row[: next((at for at, (token, _) in enumerate(row) if token == stop), 10) + 1] for row in plain]
    assert len(cut[0]) <= 5
    assert drawn(model, 1, lengths, (stop,)) == drawn(model, 8, lengths, (stop,)) == cut


def test_steps_that_go_onward_have_the_bits_of_steps_laid_out_anew(
    context: Context, folders: dict[str, Path]
) -> None:
    model = NativeModel(context, folders["qwen3"])
    heads = [Head("h", 1, torch.randn(WIDTH, generator=torch.Generator().manual_seed(2)))]
    plan = plan_of(model, (vector("add", 1.5, Gate(0, torch.ones(WIDTH), 0.0, 0.0)),), heads)

    def seen(onward: bool) -> list[Any]:
        kept = torch.full((2, 6, WIDTH), torch.nan)

        def laid(tokens: Sequence[int], at: int) -> list[Run]:
            looked = Run(rows[0], tokens[:1], None, plan, True, True, True, taps=(1, 0), into=kept, at=at)
            return [looked, Run(rows[1], tokens[1:], generation=True, draw=True)]

        rows, found = [model.sequence(), model.sequence()], []
        runs = laid(IDS[:2], 1)
        steps = model.steps(runs)
        for at in range(1, 5):
            steps.make()
            looked, other = runs
            assert looked.logits is not None
            states = [x.clone() for x in looked.states.values()]
            found.append((looked.logits.clone(), looked.last_readings(), states, looked.drawn, other.drawn))
            if onward:
                steps.onward([run.token for run in runs])
            else:
                runs = laid([run.token for run in runs], at + 1)
                steps = model.steps(runs)
        assert kept[:, 0].isnan().all()
        return [*found, kept[:, 1:5]]

    plain, moved = seen(False), seen(True)
    assert torch.equal(plain[-1], moved[-1])
    for one, other in zip(plain[:-1], moved[:-1], strict=True):
        assert torch.equal(one[0], other[0])
        assert all(map(torch.equal, one[2], other[2]))
        assert (one[1], one[3], one[4]) == (other[1], other[3], other[4])


def test_what_was_drawn_before_a_failure_is_told(context: Context, folders: dict[str, Path]) -> None:
    """The context ends after two more tokens; the run beside it goes on."""
    model = NativeModel(context, folders["llama"])
    full, free = (Run(model.sequence(), [3] * count, draw=True, most=8) for count in (94, 9))
    model.step([full, free])
    assert (full.status, len(full.drawn)) == (lib.OUT_OF_CONTEXT, 3)
    assert (free.status, len(free.drawn)) == (lib.OK, 8)


def test_what_does_not_fit_is_refused_by_name(context: Context, folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="'abacus'"):
        Context(1, "abacus")
    model = NativeModel(context, folders["llama"], cache_bytes=1 << 16)
    long = Run(model.sequence(), [1] * 97)
    model.step([long])
    assert long.status == lib.OUT_OF_CONTEXT
    held = [model.sequence() for _ in range(20)]
    runs = [Run(sequence, [1, 2]) for sequence in held]
    model.step(runs)
    assert {run.status for run in runs} == {lib.OK, lib.OUT_OF_CACHE}
    used = model.cache_bytes
    assert 0 < used <= 1 << 16
    del runs, held
    assert model.cache_bytes == 0


def test_a_folder_of_another_kind_is_refused(
    context: Context, folders: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(NotLean, match="gpt2"):
        NativeModel(context, tmp_path)


# -- steering ----------------------------------------------------------------------------------------------


def vector(kind: Any, coefficient: float, gate: Gate | None = None) -> SteeringVector:
    draw = torch.Generator().manual_seed(3)
    v, w = torch.randn(WIDTH, generator=draw), torch.randn(WIDTH, generator=draw) / 7
    clamps = kind == "clamp_feature"
    encoder, feature = (Encoder(w, 0.2, 0.1), 5) if clamps else (None, None)
    return SteeringVector("v", kind, 0, coefficient, "generation", v, feature, gate, encoder)


def tapped(
    model: NativeModel, vectors: tuple[SteeringVector, ...], generation: bool, steered: bool
) -> Tensor:
    plan = plan_of(model, vectors)
    run = Run(model.sequence(), IDS[:9], plan=plan, generation=generation, taps=(0,), taps_steered=steered)
    model.step([run])
    return run.states[0]


@pytest.mark.parametrize(
    ("kind", "coefficient"), [("add", 1.7), ("project_out", 0.8), ("scale", 2.5), ("clamp_feature", 1.3)]
)
def test_steering_is_that_of_the_tables(
    kind: Any, coefficient: float, context: Context, folders: dict[str, Path]
) -> None:
    model, one = NativeModel(context, folders["llama"]), vector(kind, coefficient)
    before = tapped(model, (one,), True, False)
    tables, reader = SteerTables.empty(2, WIDTH), one.encoder
    tables.put(
        1, kind, one.vector, coefficient, reader.weight if reader else None, reader.bias if reader else 0.0,
        reader.threshold if reader else 0.0,
    )  # fmt: skip
    wanted = steer(before, tables, torch.ones(9, dtype=torch.long))
    assert torch.allclose(tapped(model, (one,), True, True), wanted, rtol=1e-4, atol=1e-5)
    assert not torch.equal(before, wanted)
    assert torch.equal(tapped(model, (one,), False, True), before), "out of scope, bits stay"


def test_gates_are_read_before_their_layer_is_steered(context: Context, folders: dict[str, Path]) -> None:
    model = NativeModel(context, folders["llama"])
    direction = torch.randn(WIDTH, generator=torch.Generator().manual_seed(8))
    before = tapped(model, (), True, True)
    logits = before @ direction
    gate = Gate(0, direction, 0.0, float(logits.sort().values[4:6].mean()))
    # the first vector would change what the second one's gate reads, if it came later
    push = replace(vector("add", 50.0), vector=-direction)
    after = tapped(model, (push, vector("add", 1.0, gate)), True, True)
    moved = (after - before + 50.0 * direction).norm(dim=-1) > 1e-2
    assert moved.tolist() == (logits >= gate.threshold).tolist()
    assert 0 < int(moved.sum()) < 9


def test_instruments_read_the_same_in_a_batch_as_alone(folders: dict[str, Path]) -> None:
    """On several threads a batch's rows are looked at by whoever goes on with them."""
    found = []
    for threads, copies in ((1, 1), (1, 5), (2, 1), (2, 5)):
        model = NativeModel(Context(threads), folders["llama"])
        heads = [
            Head(f"h{i}", i % LAYERS, torch.randn(WIDTH, generator=torch.Generator().manual_seed(i)))
            for i in range(19)
        ]
        steered = (
            vector("add", 1.5, Gate(0, torch.ones(WIDTH), 0.0, 0.0)),
            replace(vector("scale", 0.5), layer=1),
        )
        plan = plan_of(model, steered, heads)
        states = torch.full((2, 12, WIDTH), torch.nan)
        others = [Run(model.sequence(), IDS[i : i + 4], draw=True) for i in range(copies - 1)]
        run = Run(model.sequence(), IDS[:9], None, plan, True, True, True, taps=(1, 0), into=states, at=2)
        model.step([*others, run])
        assert run.readings is not None
        assert run.last_readings(7) == run.readings[-1, 7:].tolist()
        assert states[:, :2].isnan().all()
        assert states[:, 11:].isnan().all()
        assert torch.equal(run.states[0], states[1, 2:11])
        found.append((run.readings.clone(), states[:, 2:11], run.logits))
    for readings, states, logits in found[1:]:
        assert torch.equal(readings, found[0][0])
        assert torch.equal(states, found[0][1])
        assert logits is not None
        assert found[0][2] is not None
        assert torch.equal(logits, found[0][2])


def test_heads_read_what_steering_left(context: Context, folders: dict[str, Path]) -> None:
    model, one = NativeModel(context, folders["llama"]), vector("add", 2.0)
    heads = (Head("a", 1, torch.randn(WIDTH), 0.5), Head("b", 0, torch.randn(WIDTH)))
    run = Run(model.sequence(), IDS[:6], plan=plan_of(model, (one,), heads), generation=True, taps=(0, 1))
    model.step([run])
    assert run.readings is not None
    for column, head in enumerate(heads):
        wanted = run.states[head.layer] @ head.weight + head.bias
        assert torch.allclose(run.readings[:, column], wanted, rtol=1e-4, atol=1e-4)

"""The recipe step ``finetune``: a whole model, a part of it, or an adapter learns a new skill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from ...store.errors import UsageError
from ..adapters import AdapterBank
from ..models import load_model_folder, quiet
from ..tokenizing import ChatCodec
from . import cofitune, scoring
from .cofitune import Region, Scores
from .crew import crew, need_whole
from .data import Data
from .finetune import Row, Tuning, encode_rows, train_adapter
from .finetune_full import Module, Sft, Trainer, interpolate, region, tune
from .finetune_mask import Control, Mode, SoftMask, controlled, importance
from .loop import Tick
from .pretrain import Sink
from .sizes import answering, training
from .step import Context, Estimate, Figures, Form, Kind, Plan, Preview, Settings

Method = Literal["alora", "lora", "dora", "full", "region", "cofitune"]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


class Finetune(Settings):
    """Settings. ``data`` has the columns prompt and answer; ``test_data`` judges the new skill, and each set
    of ``versatility_data`` one that the model had before.

    ``alora`` makes an adapter that wakes at the invocation; ``lora`` and ``dora`` (through peft) are merged
    into the weights; ``full`` trains everything; ``region`` the ``module`` of ``layers``; ``cofitune``
    searches for those. ``mask`` turns the soft mask on; its importance is measured on ``importance_rows``
    rows of ``data`` (as published) or of the first versatility set. ``trainer`` is the loop of this package,
    or trl's ``SFTTrainer`` on the same rows.
    """

    method: Method = "alora"
    data: str
    test_data: str | None = None
    versatility_data: tuple[str, ...] = ()
    steps: Count = 300
    rows: Count = 32
    rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 20
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: Annotated[float, Field(gt=0)] = 1.0
    every: Count = 100
    rank: Count = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    targets: tuple[str, ...] = ()
    layers: tuple[int, int] | None = None
    module: Module = "ffn"
    anchor: Annotated[float, Field(ge=0)] = 0.0
    interpolate: Share = 1.0
    mask: Mode | None = None
    control: Control = "importance"
    importance_from: Literal["data", "versatility"] = "versatility"
    importance_rows: Count = 128
    absolute: bool = True
    search_steps: Count | None = None
    longest: Count = scoring.LONGEST
    trainer: Trainer = "own"

    def sft(self, seed: int, steps: int | None = None) -> Sft:
        """The schedule of training the model's own weights."""
        names = ("rows", "rate", "warmup", "weight_decay", "clip", "every", "anchor", "trainer")
        return Sft(steps=steps or self.steps, seed=seed, **{n: getattr(self, n) for n in names})


def gives(settings: Finetune) -> Form:
    """An activated adapter, or a model."""
    return "adapter" if settings.method == "alora" else "model"


def check(settings: Finetune, plan: Plan) -> None:
    """Refuse what cannot work together."""
    for data in plan.data.values():
        data.require(("prompt", "answer"))
    if plan.data[settings.data].test:
        raise UsageError(f"data {settings.data!r} is a test set: it is not trained on")
    adapter = settings.method in ("alora", "lora", "dora")
    if settings.mask and adapter:
        raise UsageError(
            f"mask = {settings.mask!r} acts on the model's own weights, {settings.method} trains none"
        )
    if adapter and (settings.anchor or settings.interpolate < 1):
        raise UsageError(
            f"anchor and interpolate change the model's own weights, {settings.method} trains none"
        )
    if settings.targets and not adapter:
        raise UsageError(
            f"targets are those of an adapter, method {settings.method} has none: leave them out"
        )
    if (settings.method == "region") != (settings.layers is not None):
        raise UsageError('layers = [first, last] belongs to method = "region", and only to it')
    if settings.method == "cofitune" and not (settings.test_data and settings.versatility_data):
        raise UsageError(
            "cofitune searches by speciality and versatility: give test_data and versatility_data"
        )
    if settings.mask and settings.importance_from == "versatility" and not settings.versatility_data:
        raise UsageError('the mask needs versatility_data, or importance_from = "data"')
    if settings.trainer == "trl":
        _check_trl(settings)
    _check_whole(settings)


def _check_whole(settings: Finetune) -> None:
    """Refuse what needs whole weights, where the launch splits them."""
    if settings.method == "alora":
        need_whole(
            "an activated adapter acts through its own copies of the whole linear maps "
            '(method = "lora" trains under FSDP)'
        )
    if settings.mask or settings.anchor:
        need_whole("mask and anchor compare whole weights with others of their shape")
    if settings.trainer == "trl":
        need_whole('trainer = "trl" wraps models by itself (trainer = "own" trains under FSDP)')


def _check_trl(settings: Finetune) -> None:
    from .finetune_trl import need_trl

    if settings.method == "alora" or settings.mask or settings.anchor:
        raise UsageError(
            'trainer = "trl" learns answers by whole sequences: method alora, mask and anchor need '
            'trainer = "own"'
        )
    need_trl()


def estimate(settings: Finetune, preview: Preview) -> Estimate:
    """Training, answering, and for cofitune about ten trials."""
    size, count = preview.inputs[0], max(1, preview.rows[settings.data])
    length = max(8, preview.tokens[settings.data] // count + 4)
    share = {"full": 1.0, "region": 0.1, "cofitune": 0.3}.get(settings.method, 0.05)
    whole = training(size, preview, settings.steps, min(settings.rows, count), length, share)
    prompts = sum(preview.rows[n] for n in (settings.test_data, *settings.versatility_data) if n)
    judged = answering(size, preview, 2 * prompts)
    seconds = whole.seconds + judged.seconds
    if settings.method == "cofitune":
        steps = settings.search_steps or settings.steps
        seconds += 10 * (whole.seconds * steps / settings.steps + judged.seconds / 2)
    return Estimate(seconds, whole.memory, whole.disk)


@dataclass
class Bench:
    """A loaded model with its codec, rows and the sets that judge it."""

    settings: Finetune
    context: Context
    model: PreTrainedModel
    codec: ChatCodec
    rows: list[Row]

    @classmethod
    def open(cls, settings: Finetune, context: Context) -> Bench:
        """Load the step's first input in fp32."""
        folder = context.inputs[0].folder
        codec = ChatCodec.load(folder)
        rows = rows_of(codec, context.data[settings.data])
        return cls(settings, context, load_model_folder(folder, torch.float32), codec, rows)

    def judge(self, bank: AdapterBank | None = None, name: str = "") -> dict[str, float]:
        """Exact-answer accuracy on every judging set, found by the main process."""
        return crew().once(lambda: self._judged(bank, name))

    def _judged(self, bank: AdapterBank | None, name: str) -> dict[str, float]:
        found = {}
        for key in (self.settings.test_data, *self.settings.versatility_data):
            if key:
                args = (self.codec, self.context.data[key], self.settings.longest)
                active = (lambda: bank.active(name)) if bank else nullcontext
                found[key] = scoring.mean(scoring.exact(self.model, *args, active))
        return found

    def train(
        self, chosen: Sequence[str] | None, work: Path, steps: int | None = None, word: str = ""
    ) -> None:
        """Train the chosen weights as the settings say, soft mask and interpolation included."""
        settings, context = self.settings, self.context
        held = dict(self.model.named_parameters())
        names = list(held) if chosen is None else list(chosen)
        start = {n: held[n].detach().clone() for n in names} if settings.interpolate < 1 else {}
        mask = self._mask(names) if settings.mask else None
        tune(
            self.model,
            self.rows,
            len(self.codec.invocation),
            settings.sft(context.seed, steps),
            work,
            names,
            context.say,
            context.tick if not word else lambda done, total: None,
            mask,
            word=word,
        )
        interpolate(self.model, start, settings.interpolate)

    def _mask(self, chosen: Sequence[str]) -> SoftMask:
        settings, context = self.settings, self.context
        which = settings.versatility_data[0] if settings.importance_from == "versatility" else settings.data
        rows = rows_of(self.codec, context.data[which])[: settings.importance_rows]
        found = importance(
            self.model, rows, len(self.codec.invocation), context.seed, absolute=settings.absolute
        )
        assert settings.mask is not None
        return SoftMask(self.model, chosen, controlled(found, settings.control, context.seed), settings.mask)


@dataclass(frozen=True)
class Plain:
    """A row of a data set as a lesson."""

    prompt: str
    answer: str
    history: tuple[tuple[str, str], ...] = ()


def rows_of(codec: ChatCodec, data: Data) -> list[Row]:
    """Tokenize a data set's prompts and answers."""
    return encode_rows(codec, [Plain(p, a) for p, a in data.pairs()])


def run(settings: Finetune, context: Context) -> Figures:
    """Fine-tune, judge before and after, and write the model or adapter."""
    torch.manual_seed(context.seed)
    bench = Bench.open(settings, context)
    before = bench.judge()
    figures: dict[str, Any] = {"method": settings.method}
    after = _adapter(bench) if settings.method == "alora" else _weights(bench, figures)
    if settings.test_data:
        figures |= scoring.balance(before, after, settings.test_data)
    return figures | {"before": before, "after": after}


def _adapter(bench: Bench) -> dict[str, float]:
    settings, context = bench.settings, bench.context
    tuning = Tuning(
        **{n: getattr(settings, n) for n in ("rank", "alpha", "rate", "weight_decay", "rows", "steps")},
        **{n: getattr(settings, n) for n in ("warmup", "clip", "every", "targets")},
        seed=context.seed,
    )
    lessons = [Plain(p, a) for p, a in context.data[settings.data].pairs()]
    train_adapter(
        bench.model, bench.codec, lessons, tuning, context.work, context.out, context.say, tick=context.tick
    )
    bank = AdapterBank(bench.model)
    if crew().main:
        bank.load("new", context.out)
    found = bench.judge(bank, "new")
    bank.close()
    return found


def _weights(bench: Bench, figures: dict[str, Any]) -> dict[str, float]:
    settings, context, model = bench.settings, bench.context, bench.model
    if settings.method in ("lora", "dora"):
        bench.model = low_rank(
            model, bench.rows, len(bench.codec.invocation), settings.sft(context.seed), context.work,
            settings.rank, settings.alpha, settings.targets, settings.method == "dora",
            context.say, context.tick,
        )  # fmt: skip
    elif settings.method == "full":
        bench.train(None, context.work)
    else:
        where = chosen_region(bench, figures)
        names = region(model, (where.first, where.last), where.module)
        figures["trained"] = where.name
        bench.train(names, context.work / "final")
    found = bench.judge()
    save_model(bench.model, context.inputs[0].folder, context.out)
    return found


def low_rank(
    model: PreTrainedModel,
    rows: Sequence[Row],
    invocation: int,
    sft: Sft,
    work: Path,
    rank: int = 16,
    alpha: float = 32.0,
    targets: Sequence[str] = (),
    dora: bool = False,
    say: Sink = lambda line: None,
    tick: Tick = lambda done, total: None,
) -> PreTrainedModel:
    """Train LoRA (Hu et al., 2022) or DoRA (Liu et al., 2024) matrices through peft; return them merged."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(sft.seed)
    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha),
        target_modules=list(targets) or "all-linear",
        use_dora=dora,
        task_type="CAUSAL_LM",
    )
    wrapped: Any = get_peft_model(model, config)
    inner = wrapped.base_model.model
    chosen = [n for n, p in inner.named_parameters() if p.requires_grad]
    tune(inner, rows, invocation, sft, work, chosen, say, tick)
    merged: PreTrainedModel = wrapped.merge_and_unload()
    return merged


def chosen_region(bench: Bench, figures: dict[str, Any]) -> Region:
    """The region that the settings name, or the one that the tree search finds; trials are kept."""
    settings, context = bench.settings, bench.context
    if settings.layers is not None:
        return Region(*settings.layers, settings.module)
    start = {n: p.detach().clone() for n, p in bench.model.named_parameters()}
    runner = cofitune.kept(
        lambda regions: [_trial(bench, r, start) for r in regions], context.work / "trials"
    )
    best, trials = cofitune.search(int(bench.model.config.num_hidden_layers), runner)
    figures["trials"] = {r.name: {"uni": s.uni, "speciality": s.speciality} for r, s in trials.items()}
    return best


def _trial(bench: Bench, where: Region, start: Mapping[str, torch.Tensor]) -> Scores:
    """Train one region, judge it, and put the weights back. A killed trial resumes; a judged one is kept."""
    settings, context = bench.settings, bench.context
    folder = context.work / f"trial-{where.name}"
    names = region(bench.model, (where.first, where.last), where.module)
    bench.train(names, folder, settings.search_steps, f"{where.name} ")
    assert settings.test_data is not None
    found = bench.judge()
    scores = Scores(found[settings.test_data], scoring.mean([found[n] for n in settings.versatility_data]))
    with torch.no_grad():
        for name, parameter in bench.model.named_parameters():
            parameter.copy_(start[name])

    def keep() -> None:
        cofitune.keep(context.work / "trials", where, scores)
        shutil.rmtree(folder)

    crew().once(keep)
    context.say(f"trial {where.name}: Uni {scores.uni:.3f}, speciality {scores.speciality:.3f}")
    return scores


def save_model(model: PreTrainedModel, like: Path, out: Path) -> None:
    """Write a model folder in the dtype of ``like``, with its tokenizer files; only the main process does."""
    if not crew().main:
        return
    config = json.loads((like / "config.json").read_text())
    name = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(name, torch.float32)
    nn.Module.to(model, dtype)
    with quiet():
        model.save_pretrained(out)
    for file in TOKENIZER:
        if (like / file).is_file():
            shutil.copyfile(like / file, out / file)


STEP: Kind[Finetune] = Kind(
    name="finetune",
    settings=Finetune,
    run=run,
    estimate=estimate,
    gives=gives,
    check=check,
    trains=True,
    help="teach a model or an adapter a new skill and report what it forgot",
)

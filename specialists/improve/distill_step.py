"""The recipe step ``distill``: a student learns from one teacher, or from the best of several per prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from ...store.errors import UsageError
from ..models import load_model_folder
from ..tokenizing import ChatCodec
from . import persyn, scoring
from .crew import crew, need_whole
from .distill import shallow
from .distill_logits import LogitLoss
from .divergence import Divergence
from .finetune import Row
from .finetune_full import Sft, tune
from .finetune_step import save_model
from .persyn import Labels, Route, Routing
from .sizes import answering, training
from .step import Context, Estimate, Figures, Kind, Plan, Preview, Settings, Size
from .teachers import ModelTeacher, keep_routed, kept_routed, routed, same_tokenizer

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Distill(Settings):
    """Settings. The first input is what the student starts from (cut to ``layers``, if given), the others
    are its teachers. ``data`` has prompts; the right answers in its column ``answer`` are seen by the
    labelling of ``labelled`` rows only. ``test_data`` judges.

    ``loss`` ``sequence`` learns the teachers' answers; ``forward``, ``reverse`` and ``js`` match the
    distribution of the one teacher, ``on_policy`` of the steps on the student's own answers. With several
    teachers ``route`` chooses among them, and every route of ``compare`` makes and judges a student too.
    """

    data: str
    test_data: str | None = None
    layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    loss: Literal["sequence", "forward", "reverse", "js"] = "sequence"
    beta: Share = 0.5
    temperature: Annotated[float, Field(gt=0)] = 1.0
    on_policy: Share = 0.0
    route: Route = "persyn"
    compare: tuple[Route, ...] = ()
    labelled: Count = 250
    alpha: Share = 0.4
    normaliser: persyn.Normaliser = "minmax"
    car_beta: Annotated[float, Field(ge=0)] = 1.0
    router_steps: Count = 200
    router_rate: Annotated[float, Field(gt=0)] = 1e-3
    steps: Count = 500
    rows: Count = 32
    rate: Annotated[float, Field(gt=0)] = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 20
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 1.0
    every: Count = 100
    longest: Count = scoring.LONGEST

    def sft(self, seed: int) -> Sft:
        """The schedule of the student."""
        names = ("rows", "steps", "rate", "warmup", "weight_decay", "clip", "every")
        return Sft(seed=seed, **{n: getattr(self, n) for n in names})


def check(settings: Distill, plan: Plan) -> None:
    """Refuse what cannot work together."""
    data, several = plan.data[settings.data], len(plan.inputs) > 2
    data.require(("prompt", "answer") if several else ("prompt",))
    if data.test:
        raise UsageError(f"data {settings.data!r} is a test set: it is not trained on")
    if settings.test_data:
        plan.data[settings.test_data].require(("prompt", "answer"))
    if plan.inputs[0] != "model":
        raise UsageError("the first input is what the student starts from: a model, no adapter")
    if several and settings.loss != "sequence":
        raise UsageError(f"loss = {settings.loss!r} matches one teacher's distribution, from gives several")
    if not several and settings.compare:
        raise UsageError("compare routes among several teachers, from gives one")
    if settings.on_policy and settings.loss == "sequence":
        raise UsageError('on_policy needs a teacher\'s distribution: loss = "forward", "reverse" or "js"')
    if settings.on_policy:
        need_whole("on_policy samples answers of another length on each, and a pass needs all of them")
    if settings.loss == "js" and not 0 < settings.beta < 1:
        raise UsageError(f"beta {settings.beta}: js needs one strictly between 0 and 1")
    if "oracle" in (settings.route, *settings.compare):
        raise UsageError("the oracle needs every teacher's answer to every prompt: it is a benchmark's row")
    if several and settings.labelled >= len(data.rows):
        raise UsageError(
            f"labelled = {settings.labelled}, but data {data.name!r} has {len(data.rows)} rows: label a part"
        )


def student_size(settings: Distill, start: Size) -> Size:
    """The student's shape."""
    if not settings.layers:
        return start
    block = (start.parameters - start.vocabulary * start.width) // max(1, start.layers)
    parameters = start.parameters - block * (start.layers - len(settings.layers))
    return Size(parameters, len(settings.layers), start.width, start.feed, start.vocabulary)


def estimate(settings: Distill, preview: Preview) -> Estimate:
    """Labelling by every teacher, one answer a prompt, the router, and a student for every route."""
    size, teachers = student_size(settings, preview.inputs[0]), preview.inputs[1:]
    rows = preview.rows[settings.data]
    length = max(8, preview.tokens[settings.data] // rows + 4)
    whole = training(size, preview, settings.steps, min(settings.rows, rows), length)
    seconds, several = whole.seconds, len(teachers) > 1
    if several:
        seconds += sum(answering(t, preview, settings.labelled).seconds for t in teachers)
        seconds += training(size, preview, settings.router_steps, 32, length).seconds
    routes = len({settings.route, *settings.compare}) if several else 1
    seconds += (routes - 1) * whole.seconds + answering(max(teachers, key=_weight), preview, rows).seconds
    held = sum(4 * t.parameters for t in teachers) + 4 * preview.inputs[0].parameters
    return Estimate(seconds, whole.memory + held, whole.disk + 40 * rows, size)


def _weight(size: Size) -> int:
    return size.parameters


@dataclass
class Class:
    """A student's start, its teachers, and the prompts."""

    settings: Distill
    context: Context
    codec: ChatCodec
    teachers: list[ModelTeacher]
    prompts: list[tuple[int, ...]]
    cost: int = field(default=0)

    @classmethod
    def open(cls, settings: Distill, context: Context) -> Class:
        """Load the teachers."""
        same_tokenizer(context.inputs)
        codec = ChatCodec.load(context.inputs[0].folder)
        prompts = [codec.encode_prompt(r["prompt"]) for r in context.data[settings.data].rows]
        return cls(settings, context, codec, [ModelTeacher.open(m) for m in context.inputs[1:]], prompts)

    def start(self) -> PreTrainedModel:
        """Return a fresh student."""
        model = load_model_folder(self.context.inputs[0].folder, torch.float32)
        return shallow(model, self.settings.layers) if self.settings.layers else model

    def labels(self) -> tuple[Labels, Tensor]:
        """Let every teacher answer the labelled rows; return the labels and the answers' lengths [N, K]."""
        path, settings = self.context.work / "labels.json", self.settings

        def answer() -> None:
            if path.exists():
                return
            columns = [self._label(teacher) for teacher in self.teachers]
            part = path.with_suffix(".part")
            part.write_text(json.dumps([torch.stack(c, 1).tolist() for c in zip(*columns, strict=True)]))
            part.replace(path)

        crew().once(answer)
        quality, likelihood, lengths = (torch.tensor(x) for x in json.loads(path.read_text()))
        return Labels(quality, likelihood, settings.alpha, settings.normaliser), lengths

    def _label(self, teacher: ModelTeacher) -> tuple[Tensor, Tensor, Tensor]:
        """Quality (the exact answer), mean log-likelihood and length of one teacher's answers."""
        count = self.settings.labelled
        prompts, data = self.prompts[:count], self.context.data[self.settings.data].rows
        answers = teacher.answer(prompts, self.settings.longest)
        texts = [self.codec.decode(a.tokens).strip() if a.ended else None for a in answers]
        right = [float(t == data[i]["answer"].strip()) for i, t in enumerate(texts)]
        rows = [
            Row(p, (*self.codec.invocation, *a.tokens, self.codec.end))
            for p, a in zip(prompts, answers, strict=True)
        ]
        likely = persyn.learnability(self.start(), rows, len(self.codec.invocation))
        self.context.say(f"{teacher.name} answered {count} labelled prompts, {scoring.mean(right):.1%} right")
        return torch.tensor(right), likely, torch.tensor([float(len(a.tokens)) for a in answers])

    def routes(self, route: Route, labels: Labels) -> list[int]:
        """Which teacher answers each prompt."""
        settings, count = self.settings, len(self.prompts)
        if route in ("strong", "car"):
            return [labels.single(route, settings.car_beta)] * count
        if route == "mix":
            return persyn.mixed(count, len(self.teachers), self.context.seed)
        if route == "shuffled":
            return persyn.shuffled(self.routes("persyn", labels), self.context.seed)
        return [int(t) for t in self.scores(route, labels).argmax(1)]

    def scores(self, route: Route, labels: Labels, keep: int | None = None) -> Tensor:
        """A learned route's coefficients [N, K] for every prompt; ``keep`` fits on the first rows only."""
        settings, name = self.settings, route if keep is None else f"{route}-{keep}"
        fitted = slice(0, keep or settings.labelled)
        reward, known = labels.reward(route)[fitted], self.prompts[: settings.labelled][fitted]
        plan = Routing(steps=settings.router_steps, rate=settings.router_rate, seed=self.context.seed)
        router = persyn.fit_router(
            self.start(), known, reward, plan, self.context.work / f"router-{name}", self.context.say
        )
        return router.scores(self.prompts)

    def rows(self, routes: Sequence[int], name: str) -> list[Row]:
        """Let every prompt be answered once, as routed; answers that did not end are left out."""
        path = self.context.work / f"answers-{name}.json"

        def answer() -> None:
            if not path.exists():
                found = routed(self.teachers, self.prompts, routes, self.settings.longest, self.codec)
                keep_routed(path, found)

        crew().once(answer)
        kept = [row for row in kept_routed(path) or () if row is not None]
        if not kept:
            raise ValueError(f"no answer of {name} ended within {self.settings.longest} tokens: allow more")
        return kept


def run(settings: Distill, context: Context) -> Figures:
    """Distill, judge and write the student."""
    torch.manual_seed(context.seed)
    room = Class.open(settings, context)
    if len(room.teachers) > 1:
        return _several(room)
    rows = room.rows([0] * len(room.prompts), "single")
    student, figures = _taught(room, rows, "single")
    save_model(student, context.inputs[0].folder, context.out)
    return figures | {"answers_kept": len(rows), "prompts": len(room.prompts)}


def _several(room: Class) -> Figures:
    settings, context = room.settings, room.context
    labels, lengths = room.labels()
    figures: dict[str, Any] = {"teachers": _teachers(room, labels, lengths), "router": _router(room, labels)}
    for route in dict.fromkeys((*settings.compare, settings.route)):
        if route == "oracle":
            raise UsageError(
                "the oracle needs every teacher's answer to every prompt: it is a benchmark's row"
            )
        routes = room.routes(route, labels)
        rows = room.rows(routes, route)
        student, found = _taught(room, rows, route)
        shares = [round(routes.count(k) / len(routes), 4) for k in range(len(room.teachers))]
        mean_length = scoring.mean([float(len(r.answer)) for r in rows])
        figures[route] = found | {"answers_kept": len(rows), "shares": shares, "mean_length": mean_length}
        if route == settings.route:
            save_model(student, context.inputs[0].folder, context.out)
    one = settings.labelled * len(room.teachers) + len(room.prompts)
    return figures | {"generations": one, "generate_then_select": len(room.prompts) * len(room.teachers)}


def _teachers(room: Class, labels: Labels, lengths: Tensor) -> dict[str, dict[str, float]]:
    columns = {"quality": labels.quality, "likelihood": labels.likelihood, "length": lengths}
    return {t.name: {n: float(x.mean(0)[k]) for n, x in columns.items()} for k, t in enumerate(room.teachers)}


def _router(room: Class, labels: Labels) -> dict[str, float]:
    """Judge the router on the last fifth of the labelled rows, fitted on the others."""
    count = room.settings.labelled
    keep = max(1, count * 4 // 5)
    reward = labels.reward()[keep:count]
    if not len(reward):
        return {}
    scores = room.scores("persyn", labels, keep)[keep:count]
    single = torch.zeros_like(scores)
    single[:, int(labels.reward()[:keep].mean(0).argmax())] = 1.0
    return {
        "hit1": float(persyn.hit(scores, reward).mean()),
        "hit3": float(persyn.hit(scores, reward, 3).mean()),
        "hit1_best_single": float(persyn.hit(single, reward).mean()),
    }


def _taught(room: Class, rows: list[Row], name: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train one student and judge it."""
    settings, context, student = room.settings, room.context, room.start()
    loss = None
    if settings.loss != "sequence":
        kind: Divergence = settings.loss
        loss = LogitLoss(
            student, room.teachers[0], room.codec, kind, settings.beta, settings.temperature,
            settings.on_policy, settings.longest, context.seed,
        )  # fmt: skip
    work, sft = context.work / f"student-{name}", settings.sft(context.seed)
    tune(
        student, rows, len(room.codec.invocation), sft, work,
        say=context.say, tick=context.tick, loss=loss, word=f"{name} ",
    )  # fmt: skip
    if settings.test_data is None:
        return student, {}
    test = context.data[settings.test_data]
    right = crew().once(lambda: scoring.mean(scoring.exact(student, room.codec, test, settings.longest)))
    context.say(f"{name}: {right:.1%} of the test set right")
    return student, {"accuracy": right}


STEP: Kind[Distill] = Kind(
    name="distill",
    settings=Distill,
    run=run,
    estimate=estimate,
    gives=lambda settings: "model",
    takes=(2, 32),
    accepts=("model", "adapter"),
    check=check,
    trains=True,
    help="teach a student by one teacher, or by the best of several for each prompt",
)

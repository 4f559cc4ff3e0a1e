"""What may be asked, in OpenAI's words: every parameter is honoured, or refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ...store.records import Message
from ..voyage import Steer

# Parameters of the protocol that this service has no use for, and the values that ask for nothing.
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "top_p": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "stop": ([],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
    "service_tier": ("auto", "default"),
}


class Body(BaseModel):
    """A JSON object as it was sent: no value is converted, no key is ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class TextPart(Body):
    """A piece of a message's content."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """One turn. A `developer` turn is read as a system turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def read(self) -> Message:
        """The turn as the pilot takes it."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in parts)
        return Message(role="system" if self.role == "developer" else self.role, content=text)


class StreamOptions(Body):
    """`include_usage`: one more chunk, before `[DONE]`, counts the tokens."""

    include_usage: bool = False


class SteerOptions(Body):
    """`off` drops the policy's steering; `extra` adds vectors by name, with their coefficients."""

    off: bool = False
    extra: dict[str, Annotated[float, Field(ge=-1000, le=1000)]] = Field(default={}, max_length=16)

    def read(self) -> Steer:
        """The caller's word on steering."""
        return Steer(self.off, dict(self.extra))


class Extension(Body):
    """What OpenAI's protocol has no word for.

    `thread_id` names the conversation in the log; `parent_id` the record that this request retries. `live`
    streams text before it is checked: what a check then withdraws is said in a chunk without choices.
    """

    thread_id: str | None = Field(default=None, min_length=1, max_length=255)
    parent_id: str | None = Field(default=None, min_length=1, max_length=64)
    steer: SteerOptions | None = None
    live: bool | None = None


class ChatRequest(Body):
    """A chat completion. `model` is `auto`, and the probes choose, or a specialist.

    `user` is whose request it is: what the log keeps of a person can be forgotten by that name.
    """

    model: str = Field(min_length=1, max_length=200)
    messages: list[ChatMessage] = Field(min_length=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=100)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    user: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    pilothouse: Extension = Extension()

    @model_validator(mode="before")
    @classmethod
    def _neutral(cls, sent: Any) -> Any:
        return without_neutral(sent, NEUTRAL)

    @model_validator(mode="after")
    def _one_limit(self) -> ChatRequest:
        if None not in (self.max_tokens, self.max_completion_tokens):
            raise ValueError("give max_tokens or max_completion_tokens, not both")
        return self

    @property
    def longest(self) -> int | None:
        """The most tokens that the answer may have, where the request says so."""
        return self.max_completion_tokens if self.max_tokens is None else self.max_tokens


def without_neutral(sent: Any, known: Mapping[str, tuple[Any, ...]]) -> Any:
    """Drop what asks for nothing; refuse by name what asks for something that is not done here."""
    if not isinstance(sent, dict):
        return sent
    for name in known.keys() & sent.keys():
        if sent[name] is not None and not any(_same(sent[name], neutral) for neutral in known[name]):
            raise PydanticCustomError(
                "unsupported", "{name} is not supported here; leave it out", {"name": name}
            )
    return {key: value for key, value in sent.items() if key not in known}


def _same(value: Any, neutral: Any) -> bool:
    """Equal as JSON is: 1 is 1.0, but not true."""
    return type(value) in (type(neutral), float) and bool(value == neutral)


class OutcomeRequest(Body):
    """What was learned later about a record. A higher `score` is better; `source` says who speaks."""

    verdict: str = Field(min_length=1, max_length=100)
    score: float | None = None
    source: str = Field(default="user", min_length=1, max_length=100)
    note: str = Field(default="", max_length=2000)


# -- what comes back; the routes write plain dictionaries, these describe them -------------------------------


class UsageBody(BaseModel):
    """Tokens read and written."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(BaseModel):
    """The answer's text."""

    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    """The one choice."""

    index: int
    message: AnswerMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(BaseModel):
    """A finished answer; `model` is who gave it. `pilothouse` is what `pilothouse ask --json` prints."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: UsageBody
    pilothouse: dict[str, Any]


class ResponseBody(BaseModel):
    """A finished response. `pilothouse` is what `pilothouse ask --json` prints."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["completed", "incomplete"]
    model: str
    output: list[dict[str, Any]]
    usage: dict[str, Any]
    pilothouse: dict[str, Any]


class ErrorDetail(BaseModel):
    """What went wrong, in one sentence, and what to do."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """Every error looks like this."""

    error: ErrorDetail


class ModelCard(BaseModel):
    """A model that can be asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    pilothouse: dict[str, Any]


class ModelList(BaseModel):
    """Every model: `auto`, and the specialists."""

    object: Literal["list"]
    data: list[ModelCard]

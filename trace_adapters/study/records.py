"""What a study keeps, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from trace_adapters.lm.replies import Usage

Values = Mapping[str, Any]
"""A candidate: parameter key -> JSON value."""

TrialState = Literal["done", "failed", "rejected"]
StudyState = Literal["new", "running", "interrupted", "finished"]


@dataclass(frozen=True)
class ParameterSpec:
    """The declaration of one parameter of a study."""

    key: str
    kind: str
    description: str = ""
    constraint: str = ""


@dataclass(frozen=True)
class StudyInfo:
    """One line of a list of studies.

    Attributes:
        created: Seconds since the epoch.
        state: "running" if a live process holds the study; "interrupted" if it was neither finished.
        trials: How many there are, rejected ones included.
        best_score: Of the accepted trials; None if there is none.
    """

    name: str
    created: float
    state: StudyState
    trials: int
    best_score: float | None


@dataclass(frozen=True)
class TrialRecord:
    """One candidate and its result.

    Attributes:
        parents: Keys of the candidates it was made from, the most important first.
        origin: Who made it: an optimizer's name, or "base".
        step: The step of the loop that proposed it.
        score: On the validation set; may be NaN or infinite, None if it was never measured.
        accepted: None where the question did not arise.
    """

    number: int
    candidate_key: str
    origin: str
    state: TrialState
    score: float | None
    accepted: bool | None
    parents: tuple[str, ...] = ()
    step: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    created: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class ProposalRecord:
    """What an optimizer proposed in a step, or tried to.

    Attributes:
        base_key: The candidate whose traces the optimizer saw.
        candidate_key: The proposed candidate, already added to the study; None if the reply gave none.
        rejected: Why the proposal was not applied; None if it was.
        reply: The model's reply, as it came.
    """

    base_key: str
    candidate_key: str | None
    origin: str
    reasoning: str = ""
    rejected: str | None = None
    reply: str = ""


@dataclass(frozen=True)
class StepRecord:
    """All proposals of one step; an empty tuple says that the optimizer was asked and had none.

    Attributes:
        usage: Of the model calls that made the proposals.
        meta: What else the loop needs to go on from here.
    """

    step: int
    proposals: tuple[ProposalRecord, ...]
    usage: Usage | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRecord:
    """How one candidate did on one example.

    Attributes:
        rep: Repetition, from 0: programs with a temperature are run more than once.
        output: A JSON value, or the `repr` of what JSON cannot hold (then `output_form` is "repr").
        error: Of the program; None if it ran.
        trace_json: The trace graph, as `TraceGraph.to_json` wrote it.
        usage: Of the model calls of this run.
    """

    candidate_key: str
    split: str
    example_id: str
    rep: int
    score: float | None
    feedback: str
    output: Any
    output_form: Literal["json", "repr"]
    error: str | None
    trace_json: str | None
    latency_s: float | None
    usage: Usage | None
    created: float = field(compare=False)


@dataclass(frozen=True)
class RoleTotals:
    """Model calls of one role, added up.

    Attributes:
        calls: All of them; `failed` and `cached` ones are among them.
        tokens_in: Of the calls that reported it; `tokens_cached` of them came from a server's prompt cache.
        cost_usd: Of the calls whose price is known; None if there is none.
        unpriced: Calls that cost something, nobody knows what.
    """

    role: str
    calls: int
    failed: int
    cached: int
    tokens_in: int
    tokens_out: int
    tokens_cached: int
    cost_usd: float | None
    unpriced: int
    latency_s: float


@dataclass(frozen=True)
class EventRecord:
    """Something that happened at `created` (seconds since the epoch)."""

    created: float
    kind: str
    payload: Mapping[str, Any]

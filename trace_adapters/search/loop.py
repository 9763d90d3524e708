"""The loop: look at traces, propose, judge, keep or not, and write everything down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trace_adapters.errors import BudgetExceeded
from trace_adapters.optimizers.base import Optimizer, Outcome, Proposal
from trace_adapters.optimizers.turns import Turns
from trace_adapters.search.policy import Judge, Judgement, Policy, crashes, mean, total
from trace_adapters.search.settings import SearchSettings
from trace_adapters.study.records import ProposalRecord
from trace_adapters.study.study import Study

TRAIN, VALIDATION = "train", "validation"

Listener = Callable[[str, Mapping[str, Any]], None]


@dataclass
class Incumbent:
    """The candidate to beat, with what is known of it."""

    values: dict[str, Any]
    key: str
    validation: list[Judgement]
    train: dict[int, Judgement] = field(default_factory=dict)

    @property
    def score(self) -> float:
        return mean(self.validation)

    @property
    def train_scores(self) -> dict[int, float]:
        return {position: judgement.score for position, judgement in self.train.items()}


class Search:
    """One search, from the base candidate to the end of the budget.

    Everything is a function of the settings, the judgements and the proposals, and both are looked up in the study
    first: a resumed search walks the same way again without repeating anything, then goes on.
    """

    def __init__(
        self,
        base: Mapping[str, Any],
        judge: Judge,
        optimizers: Turns,
        policy: Policy,
        study: Study,
        settings: SearchSettings,
        listener: Listener,
    ) -> None:
        self._base = dict(base)
        self._judge = judge
        self._optimizers = optimizers
        self._policy = policy
        self._study = study
        self._settings = settings
        self._listener = listener
        self._trials = 0
        self._tried: dict[str, float | None] = {}
        self.incumbent: Incumbent | None = None

    def run(self) -> str:
        """Search until something ends it; says what did."""
        try:
            self._start()
            return self._steps()
        except BudgetExceeded as spent:
            return f"budget: {spent}"

    def _start(self) -> None:
        key = self._study.add_candidate(self._base)
        start = Incumbent(self._base, key, self._validate(self._base))
        self.incumbent = start
        error = _first_error(start.validation)
        self._record(key, origin="base", score=start.score, accepted=True, parents=(), step=None, error=error)
        self._tried[key] = start.score

    def _steps(self) -> str:
        idle = step = done = 0
        while self._settings.max_steps is None or done < self._settings.max_steps:
            if self._is_perfect():
                return "solved: full score on the validation set and on every training example seen"
            proposed, judged = self._step(step)
            step += 1
            done += proposed > 0
            idle = 0 if judged else idle + 1
            if idle >= self._settings.patience:
                return f"stalled: {idle} steps without a new candidate"
        return f"steps: {done} done"

    def _step(self, step: int) -> tuple[int, int]:
        """Run one step; returns how many proposals came, and how many of them were new and judged."""
        incumbent = self._current()
        optimizer = self._optimizers.next(step, self._settings.seed)
        batch = self._batch(step, optimizer)
        self._look(self._evidence(optimizer, batch))
        proposals = self._propose(step, optimizer, [incumbent.train[position] for position in batch])
        fresh = self._sift(step, optimizer, proposals)
        if not fresh:
            self._optimizers.reward(optimizer, 0.0)
            return len(proposals), 0
        gates = [self._gate(step, optimizer, batch, proposal) for proposal in fresh]
        self._look(sorted({position for gate in gates for position in gate}))
        judged = self._judge_all(fresh, gates)
        gain = self._choose(step, optimizer, fresh, judged)
        self._optimizers.reward(optimizer, gain)
        return len(proposals), len(fresh)

    def _batch(self, step: int, optimizer: Optimizer) -> list[int]:
        known = self._current().train_scores
        wanted = _wanted_traces(optimizer)
        if wanted is None:
            return self._policy.minibatch(step, known)
        return sorted(range(self._settings.train_size), key=lambda p: (p not in known, p))[:wanted]

    def _evidence(self, optimizer: Optimizer, batch: Sequence[int]) -> list[int]:
        """The batch, and as many further training examples as the optimizer wants to have observed."""
        others = [position for position in range(self._settings.train_size) if position not in batch]
        known = self._current().train
        others.sort(key=lambda position: (position not in known, position))
        wanted = int(getattr(optimizer, "wants_evidence", 0))
        return sorted([*batch, *others[: max(0, wanted - len(batch))]])

    def _look(self, positions: Sequence[int]) -> None:
        """Judge the incumbent on these training examples, where that is not known yet."""
        incumbent = self._current()
        missing = [position for position in positions if position not in incumbent.train]
        found = self._judge([(incumbent.values, TRAIN, position) for position in missing])
        incumbent.train.update({judgement.position: judgement for judgement in found})
        self._observe(found)

    def _propose(self, step: int, optimizer: Optimizer, seen: Sequence[Judgement]) -> list[Proposal]:
        incumbent = self._current()
        recorded = self._study.find_step(step)
        if recorded is not None:
            return [self._read(r, recorded.meta, number) for number, r in enumerate(recorded.proposals)]
        self._listener("propose", {"step": step, "optimizer": optimizer.name})
        graphs = [judgement.graph for judgement in seen if judgement.graph is not None]
        seed = self._settings.seed * 100_003 + step
        n = self._settings.proposals or int(getattr(optimizer, "default_proposals", 1))
        made = optimizer.suggest(graphs, n=n, base=incumbent.values, seed=seed)
        rows = [
            ProposalRecord(
                incumbent.key,
                self._study.add_candidate(p.candidate) if p.candidate is not None else None,
                p.origin,
                p.reasoning,
                p.rejected,
                p.reply,
            )
            for p in made
        ]
        self._study.record_step(step, rows, meta={"examples": [list(p.examples) for p in made]})
        return list(made)

    def _read(self, record: ProposalRecord, meta: Mapping[str, Any], number: int) -> Proposal:
        values = self._study.candidate(record.candidate_key) if record.candidate_key is not None else None
        examples = tuple(meta.get("examples", [])[number])
        return Proposal(values, record.origin, record.reasoning, record.rejected, record.reply, examples=examples)

    def _sift(self, step: int, optimizer: Optimizer, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Keep the proposals that are new; tell the optimizer of the others."""
        fresh: list[Proposal] = []
        for proposal in proposals:
            outcome = Outcome.of_rejected(proposal)
            if proposal.candidate is not None:
                key = self._study.add_candidate(proposal.candidate)
                if key not in self._tried:
                    self._tried[key] = None
                    fresh.append(proposal)
                    continue
                reason = "These values were tried before."
                outcome = Outcome(proposal.candidate, proposal.origin, self._tried[key], False, reason)
            reason = outcome.rejected or outcome.feedback
            self._listener("rejected", {"step": step, "origin": proposal.origin, "reason": reason})
            optimizer.tell(outcome)
        return fresh

    def _gate(self, step: int, optimizer: Optimizer, batch: Sequence[int], proposal: Proposal) -> list[int]:
        """The training examples a proposal is compared on: those its proposer saw, none that it quotes."""
        if _wanted_traces(optimizer) is None and not proposal.examples:
            return list(batch)
        incumbent = self._current()
        quoted = [p for p, judgement in incumbent.train.items() if judgement.example_id in proposal.examples]
        return self._policy.minibatch(step, incumbent.train_scores, avoid=quoted)

    def _judge_all(self, fresh: Sequence[Proposal], gates: Sequence[Sequence[int]]) -> list[list[Judgement]]:
        jobs = [
            (p.candidate, TRAIN, position)
            for p, gate in zip(fresh, gates, strict=True)
            for position in gate
            if p.candidate is not None
        ]
        found = iter(self._judge(jobs))
        judged = [[next(found) for _ in gate] for gate in gates]
        for judgements in judged:
            self._observe(judgements)
        return judged

    def _choose(
        self, step: int, optimizer: Optimizer, fresh: Sequence[Proposal], judged: Sequence[list[Judgement]]
    ) -> float:
        """Put the most improved proposals to the validation set and keep the best; returns what was gained."""
        parent = self._current()
        before = [[parent.train[judgement.position] for judgement in child] for child in judged]
        gains = [self._policy.improvement(*pair) for pair in zip(judged, before, strict=True)]
        validated = {number: self._validate(_values(fresh[number])) for number in self._policy.finalists(gains)}
        winner = max(validated, key=lambda number: (total(validated[number]), -number), default=None)
        if winner is not None and not self._policy.accepts(validated[winner], parent.validation):
            winner = None
        for number, proposal in enumerate(fresh):
            values, child, validation = _values(proposal), judged[number], validated.get(number)
            key = self._study.add_candidate(values)
            if number == winner and validation is not None:
                self.incumbent = Incumbent(values, key, validation, {j.position: j for j in child})
            score = mean(validation) if validation is not None else None
            self._tried[key] = score
            self._record(
                key,
                origin=proposal.origin,
                score=score,
                accepted=number == winner,
                parents=(parent.key,),
                step=step,
                metrics={
                    "minibatch": mean(child),
                    "minibatch_parent": mean(before[number]),
                    "minibatch_size": len(child),
                    "crashes": crashes(child),
                    "crashes_parent": crashes(before[number]),
                },
                error=_first_error(child),
            )
            told = score if score is not None else mean(child)
            verdict = _verdict(child, score, number == winner)
            optimizer.tell(Outcome(values, proposal.origin, told, number == winner, verdict))
        return 0.0 if winner is None else gains[winner].worth / len(judged[winner])

    def _validate(self, values: Mapping[str, Any]) -> list[Judgement]:
        return self._judge([(values, VALIDATION, position) for position in range(self._settings.validation_size)])

    def _observe(self, judgements: Sequence[Judgement]) -> None:
        graphs = [judgement.graph for judgement in judgements if judgement.graph is not None]
        for optimizer in self._optimizers.optimizers:
            optimizer.observe(graphs)

    def _record(self, key: str, *, score: float | None, accepted: bool, step: int | None, **facts: Any) -> None:
        number = self._trials
        self._trials += 1
        self._study.record_trial(number, key, score=score, accepted=accepted, step=step, **facts)
        self._listener("trial", {"number": number, "score": score, "accepted": accepted, "step": step, **facts})

    def _is_perfect(self) -> bool:
        incumbent, full = self._current(), self._settings.full_score
        judged = [*incumbent.validation, *incumbent.train.values()]
        if any(judgement.score < full for judgement in judged):
            return False
        self._look(range(self._settings.train_size))
        return all(judgement.score >= full for judgement in incumbent.train.values())

    def _current(self) -> Incumbent:
        if self.incumbent is None:
            raise RuntimeError("The search has no incumbent before the base candidate was judged.")
        return self.incumbent


def _values(proposal: Proposal) -> dict[str, Any]:
    return dict(proposal.candidate or {})


def _first_error(judgements: Sequence[Judgement]) -> str | None:
    return next((judgement.error for judgement in judgements if judgement.error), None)


def _wanted_traces(optimizer: Optimizer) -> int | None:
    """How many training runs an optimizer wants to see; None for a minibatch."""
    return getattr(optimizer, "wants_traces", None)


def _verdict(child: Sequence[Judgement], score: float | None, accepted: bool) -> str:
    shown = f"{mean(child):.2f} on {len(child)} training examples"
    if score is not None:
        shown += f", {score:.2f} on the validation set"
    failures = [judgement.feedback.text for judgement in child if judgement.error]
    return f"{'Kept' if accepted else 'Not kept'}: {shown}." + (f" {failures[0]}" if failures else "")

"""The one call that wires target, optimizers, search, store and budget."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from trace_adapters.accepting import digest_of, read_examples, require_kept, require_kinds, require_usable
from trace_adapters.confining import check_sandbox, confining
from trace_adapters.errors import SettingError, StoreError, StudyExists, StudyNotFound
from trace_adapters.evaluation import Evaluator
from trace_adapters.lm import LanguageModel, as_lm
from trace_adapters.lm.ledger import CallRecord, record_calls
from trace_adapters.nodes import Parameter, check_values
from trace_adapters.optimizers.base import Optimizer
from trace_adapters.optimizers.demos import Demonstrations
from trace_adapters.optimizers.optoprime import OptoPrime
from trace_adapters.optimizers.textgrad import TextGrad
from trace_adapters.optimizers.turns import Turns
from trace_adapters.progress import Progress
from trace_adapters.search.budget import Budget, Meter
from trace_adapters.search.loop import TRAIN, VALIDATION, Search
from trace_adapters.search.policy import Greedy
from trace_adapters.search.settings import SearchSettings, require_whole
from trace_adapters.study.store import Store
from trace_adapters.study.study import Study
from trace_adapters.targets import Target, wrap
from trace_adapters.threads import threads

ASKING: dict[str, type[OptoPrime] | type[TextGrad]] = {"optoprime": OptoPrime, "textgrad": TextGrad}  # of a model
OPTIMIZERS = (*ASKING, "demos")


@dataclass(frozen=True)
class Best:
    """The best candidate of a run.

    Attributes:
        candidate: Parameter key -> value.
        score: Mean on the validation set; NaN if nothing was measured.
    """

    candidate: dict[str, Any]
    score: float


@dataclass(frozen=True)
class Result:
    """What `optimize` returns.

    Attributes:
        best: The best candidate with its validation score.
        program: A copy of the program with these values; the input is untouched.
        study: Everything that happened.
        base_score: Validation score of the program as it came; None if it was never measured.
        stopped: Why the search ended.
        metric_calls: Judged runs, those of earlier sessions of the study included.
    """

    best: Best
    program: Any
    study: Study
    base_score: float | None
    stopped: str
    metric_calls: int


def optimize(
    program: Any,
    trainset: Sequence[Any],
    metric: Callable[..., Any],
    *,
    valset: Sequence[Any] | None = None,
    optimizer: str | Optimizer | Sequence[str | Optimizer] = "optoprime",
    search: str = "greedy",
    lm: Any = None,
    store: str | os.PathLike[str] | Store = "sqlite:///study.db",
    study: str | None = None,
    resume: bool = False,
    budget: Budget | int | None = None,
    seed: int = 0,
    workers: int = 1,
    executor: Executor | None = None,
    minibatch_size: int = 4,
    proposals: int | None = None,
    max_steps: int | None = None,
    patience: int = 8,
    full_score: float = 1.0,
    objective: str | None = None,
    sandbox: str | None = None,
    progress: bool = True,
    listener: Callable[[str, Mapping[str, Any]], None] | None = None,
) -> Result:
    """Optimize the parameters of a program from its traces and a metric's feedback.

    Args:
        program: A `ta.Module`, a bundle, an object of a framework with an installed adapter, or a `Target`.
        trainset: Examples to learn from, in the program's own form.
        metric: Judges an output: a number, (score, text) or `Feedback`; higher is better.
        valset: Examples to choose by; default the training set.
        optimizer: "optoprime", "textgrad", "demos", an optimizer, or several that take turns by what has paid.
        search: "greedy": one incumbent, replaced by a child that is better on the minibatch its proposer saw and
            not worse on `valset`.
        lm: The model that proposes: a name for `ta.LM`, a model, a client of a framework, or a callable.
        store: Where trials, proposals, judgements and model calls are written as they happen.
        study: Name in the store; default the program's class and the first free number.
        resume: Go on with that study, or begin it if it is not there; what is recorded is not run again.
        budget: Hard limits; a number means metric calls. Default 50 metric calls for every validation example,
            at least 200.
        seed: The same seed with the same replies gives the same trials, whatever the number of workers.
        workers: Runs of the program side by side, in threads, or as one batch if the program's models take batches.
        executor: Runs them instead; its workers must share this process's memory.
        minibatch_size: Training examples that a step looks at.
        proposals: Candidates asked for in a step; default each optimizer's own (OptoPrime: 1, more for a small model).
        max_steps: Steps at most.
        patience: Steps without a new candidate after which the search ends.
        full_score: The score that cannot be improved.
        objective: What the optimizer is told to achieve, in words.
        sandbox: Where learned functions run that choose no sandbox themselves: "auto", "strict" or "bwrap"; see
            docs/security.md. The study records the level that really held.
        progress: Show progress: a live line on a terminal, plain lines elsewhere.
        listener: Called with (kind, facts) for everything that happens.

    Returns:
        The result. After Ctrl-C too, with `stopped="interrupted"`: the best so far. It waits for the runs in flight; a
        second Ctrl-C does not, and is raised as `KeyboardInterrupt`.

    Raises:
        SettingError: For options that cannot work.
        DataError: For an empty training or validation set, an example that lacks an argument of the program, or two
            different examples in one set with the same id.
        ParameterError: If the program starts from a value that a study cannot keep.
        MetricError: If the metric fails: the study keeps what was done. One that cannot read the output of a proposed
            change (TypeError, KeyError, ...) gives it score 0 instead.
        ModelError: If a model cannot be reached: go on later with `resume=True`.
        SandboxUnavailable: If this machine does not have the sandbox.
        StoreError: If the store cannot be used, or the study is there and `resume` is False.
    """
    if search != "greedy":
        raise SettingError(f"search is 'greedy' in this version, got {search!r}.")
    if resume and study is None:
        raise SettingError("resume=True needs the name of the study to go on with: study='...'.")
    require_kinds(metric, store, study, executor, objective, listener)
    target = wrap(program)
    train = read_examples(trainset, "trainset")
    validation = train if valset is None else read_examples(valset, "valset")
    parameters = target.parameters()
    if not parameters:
        raise SettingError(
            f"{type(target.program).__name__} has no trainable parameter; declare one, e.g. "
            "node(..., trainable=True), or freeze less of what there is."
        )
    require_usable(target, train, "trainset")
    require_usable(target, validation, "valset")
    check_sandbox(sandbox, parameters.values())
    limits = Budget.of(budget) if budget is not None else Budget.default(len(validation))
    if limits.metric_calls is not None and limits.metric_calls < len(validation):
        raise SettingError(
            f"A budget of {limits.metric_calls} metric calls cannot pay for one look at the {len(validation)} examples "
            "of the valset; give more, or a smaller valset."
        )
    require_whole("workers", workers, 1)
    require_whole("minibatch_size", minibatch_size, 1)
    optimizers = _optimizers(optimizer, list(parameters.values()), lm, objective)
    settings = SearchSettings(
        len(train),
        len(validation),
        seed,
        proposals,
        max_steps,
        patience,
        full_score,
    )
    base = {key: parameter.data for key, parameter in parameters.items()}
    check_values(parameters, base)
    require_kept(base)
    config = {
        "minibatch_size": minibatch_size,
        "proposals": settings.proposals,
        "optimizers": [o.name for o in optimizers],
        "search": search,
        "examples": digest_of(target, train, validation),
    }
    opened = store if isinstance(store, Store) else Store.open(store)
    stem = type(target.program).__name__
    with _open_study(opened, study, stem, resume, seed, config, parameters, base) as kept:
        tokens, usd = _spent(kept)
        meter = Meter(limits, tokens=tokens, usd=usd)
        shown = Progress(kept.name, meter, enabled=progress)
        tell = _announce(shown, listener)

        def note(call: CallRecord) -> None:
            kept.record_call(call)
            if not call.cached:
                meter.spend(call.usage if call.status == "ok" else None, call.model)

        with (
            shown,
            record_calls(note),
            confining(kept, sandbox, parameters.values(), workers),
            nullcontext(executor) if executor is not None else threads(workers) as pool,
        ):
            splits = {TRAIN: train, VALIDATION: validation}
            judge = Evaluator(target, splits, metric, kept, meter, pool, tell, workers)
            policy = Greedy(len(train), size=minibatch_size, seed=seed, full_score=full_score)
            walk = Search(base, judge, Turns(optimizers), policy, kept, settings, tell)
            stopped = _run(walk, judge, kept, tell)
        return _result(target, kept, walk, base, stopped, meter)


def _run(walk: Search, judge: Evaluator, kept: Study, tell: Callable[[str, Mapping[str, Any]], None]) -> str:
    try:
        stopped = walk.run()
    except KeyboardInterrupt:
        judge.finish()
        kept.record_event("interrupted")
        tell("stopped", {"reason": "interrupted"})
        return "interrupted"
    kept.finish(stopped)
    tell("stopped", {"reason": stopped})
    return stopped


def _result(target: Target, kept: Study, walk: Search, base: Mapping[str, Any], stopped: str, meter: Meter) -> Result:
    trials = kept.trials()
    base_score = trials[0].score if trials else None
    incumbent = walk.incumbent
    values = dict(base) if incumbent is None else dict(incumbent.values)
    score = float("nan") if incumbent is None else incumbent.score
    best = Best(values, score)
    return Result(best, target.with_values(values), kept, base_score, stopped, meter.metric_calls)


@contextmanager
def _open_study(
    store: Store,
    name: str | None,
    stem: str,
    resume: bool,
    seed: int,
    config: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    base: Mapping[str, Any],
) -> Iterator[Study]:
    space = [
        {"key": p.key, "kind": p.kind, "description": p.description, "constraint": p.constraint}
        for p in parameters.values()
    ]
    create = partial(store.create_study, seed=seed, config=config, space=space, base=base)
    if name is None:
        kept = _create_numbered(store, stem, create)
    else:
        try:
            kept = store.load_study(name) if resume else create(name)
        except StudyNotFound:
            kept = create(name)
    with kept:
        _require_same_run(kept, seed, config, base)
        kept.lock(f"{socket.gethostname()}:{os.getpid()}")
        yield kept


def _create_numbered(store: Store, stem: str, create: Callable[[str], Study]) -> Study:
    """Make a study of the first number that is free, whoever else is doing so."""
    taken = {info.name for info in store.studies()}
    number = 1
    while True:
        if f"{stem}-{number}" not in taken:
            with suppress(StudyExists):
                return create(f"{stem}-{number}")
        number += 1


def _require_same_run(kept: Study, seed: int, config: Mapping[str, Any], base: Mapping[str, Any]) -> None:
    """A resumed search walks the recorded way again, so it must begin at the same place."""
    facts = kept.facts
    now = {"seed": seed, **config, "base": dict(base)}
    then = {"seed": facts.seed, **facts.config, "base": kept.candidate(kept.base_key)}
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        shown = ", ".join(f"{n}={then.get(n)!r}" for n in changed if n not in ("base", "examples"))
        what = ", ".join(changed)
        raise StoreError(
            f"The study {kept.name!r} was begun with other {what}"
            + (f" ({shown})" if shown else "")
            + "; resume it with the same, or begin a study of another name."
        )


def _optimizers(
    chosen: str | Optimizer | Sequence[str | Optimizer],
    parameters: Sequence[Parameter],
    lm: Any,
    objective: str | None,
) -> list[Optimizer]:
    names = [chosen] if isinstance(chosen, str) or not isinstance(chosen, Sequence) else list(chosen)
    if not names:
        raise SettingError(f"optimizer is empty; choose among {', '.join(OPTIMIZERS)} or pass optimizers.")
    model: LanguageModel | None = as_lm(lm) if lm is not None else None
    return [_optimizer(name, parameters, model, objective) for name in names]


def _optimizer(
    chosen: str | Optimizer, parameters: Sequence[Parameter], lm: LanguageModel | None, objective: str | None
) -> Optimizer:
    if isinstance(chosen, Optimizer) and not isinstance(chosen, type):
        return chosen
    if isinstance(chosen, str) and chosen in ASKING:
        if lm is None:
            raise SettingError(
                f"optimizer={chosen!r} asks a language model: pass lm='gpt-4o-mini', ta.LM(...) or 'local'."
            )
        mine = [p for p in parameters if p.kind != "demos"]
        if not mine:
            raise SettingError(f"{chosen} has no parameter to propose: every one is a list of demonstrations.")
        return ASKING[chosen](mine, lm=lm, objective=objective)
    if chosen == "demos":
        mine = [p for p in parameters if p.kind == "demos"]
        if not mine:
            raise SettingError("optimizer='demos' needs a parameter of kind 'demos'; this program declares none.")
        return Demonstrations(mine)
    if isinstance(chosen, str):
        raise SettingError(f"There is no optimizer {chosen!r}; there are {', '.join(OPTIMIZERS)}.")
    raise SettingError(f"An optimizer is a name or an object with suggest, observe and tell, got {chosen!r}.")


def _spent(kept: Study) -> tuple[int, float]:
    totals = kept.totals()
    return sum(t.tokens_in + t.tokens_out for t in totals), sum(t.cost_usd or 0.0 for t in totals)


def _announce(
    shown: Progress, listener: Callable[[str, Mapping[str, Any]], None] | None
) -> Callable[[str, Mapping[str, Any]], None]:
    def tell(kind: str, facts: Mapping[str, Any]) -> None:
        shown.tell(kind, facts)
        if listener is not None:
            listener(kind, facts)

    return tell

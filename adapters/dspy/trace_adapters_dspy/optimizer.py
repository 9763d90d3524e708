"""`TraceOptimizer`: a DSPy teleprompter that learns instructions, texts, code and demonstrations from traces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dspy
from dspy.teleprompt import Teleprompter

import trace_adapters as ta
from trace_adapters.extend import Estimate as Estimate, estimate
from trace_adapters_dspy import attach, shims
from trace_adapters_dspy.models import as_lm
from trace_adapters_dspy.target import DspyTarget, listed

_STORE = "sqlite:///study.db"


@dataclass(frozen=True)
class DetailedResults:
    """How an optimization went.

    Attributes:
        candidates: Parameter key -> value, of every candidate that was measured on the validation set, in order.
        scores: Their mean scores on the validation set.
        best_candidate: The one that was chosen.
        best_score: Its score.
        base_score: That of the program as it came.
        metric_calls: Judged runs.
        stopped: Why the search ended.
        store: Where everything that happened can be read.
        study: Its name there.
    """

    candidates: list[dict[str, Any]]
    scores: list[float]
    best_candidate: dict[str, Any]
    best_score: float
    base_score: float | None
    metric_calls: int
    stopped: str
    store: str
    study: str


class TraceOptimizer(Teleprompter):  # type: ignore[misc]
    """Optimize a DSPy program from its execution traces (OPTO, arXiv 2406.16218).

    Args:
        metric: `(example, prediction)`, with `trace=None`, or with GEPA's five arguments; returns a number, or an
            object with `score` and `feedback` such as `dspy.Prediction(score=..., feedback=...)`.
        lm: The optimizer's model: a name for `ta.LM`, a `ta.LM`, a `dspy.LM`, or a function of a prompt. Default:
            the model of `dspy.configure`.
        optimizer: "optoprime", "textgrad", "demos", or several that take turns; see `ta.optimize`.
        train: What is learned: "instructions", "code" (`tad.Function`), "text" (`tad.Text`), "demos".
        include: Globs; only parameters whose key matches one.
        freeze: Globs; not those whose key matches one, e.g. `["predict.*"]`.
        max_metric_calls: Judged runs at most; instead of `budget`.
        budget: Hard limits; a number means judged runs. Default: 50 runs for each validation example, at least 200.
        minibatch_size: Training examples that a step looks at.
        max_steps: Steps at most.
        objective: What to achieve, in words, for the optimizer.
        seed: The same seed and replies give the same result, whatever `num_threads` is.
        num_threads: Runs side by side. Default: DSPy's setting.
        store: Database of studies.
        study: Name of the study. Default: the program's class and a number that is free.
        resume: Go on with that study.
        sandbox: Where learned functions run that choose no sandbox themselves; see `ta.optimize`.
        progress: Show progress.

    Raises:
        SettingError: If options exclude each other.
    """

    def __init__(
        self,
        metric: Callable[..., Any],
        *,
        lm: Any = None,
        optimizer: Any = "optoprime",
        train: str | Sequence[str] = attach.TRAIN,
        include: str | Sequence[str] = ("*",),
        freeze: str | Sequence[str] = (),
        max_metric_calls: int | None = None,
        budget: ta.Budget | int | None = None,
        minibatch_size: int = 4,
        max_steps: int | None = None,
        objective: str | None = None,
        seed: int = 0,
        num_threads: int | None = None,
        store: str | os.PathLike[str] | ta.Store = _STORE,
        study: str | None = None,
        resume: bool = False,
        sandbox: str | None = None,
        progress: bool = True,
    ) -> None:
        super().__init__()
        if not callable(metric):
            raise ta.SettingError(f"metric must be a function of (example, prediction), got {metric!r}.")
        if max_metric_calls is not None and budget is not None:
            raise ta.SettingError("Give max_metric_calls or budget, not both; Budget(metric_calls=...) is the same.")
        if resume and study is None:
            raise ta.SettingError("resume=True needs the name of the study: study='...'.")
        if num_threads is not None and not (isinstance(num_threads, int) and num_threads >= 1):
            raise ta.SettingError(f"num_threads must be a whole number of at least 1, got {num_threads!r}.")
        self.metric = metric
        self.lm = lm
        self.optimizer = optimizer
        self.train = listed(train)
        self.include = listed(include)
        self.freeze = listed(freeze)
        limits = ta.Budget(metric_calls=max_metric_calls) if max_metric_calls is not None else budget
        self.budget = None if limits is None else ta.Budget.of(limits)
        self.minibatch_size = minibatch_size
        self.max_steps = max_steps
        self.objective = objective
        self.seed = seed
        self.num_threads = num_threads
        self.store = store
        self.study = study
        self.resume = resume
        self.sandbox = sandbox
        self.progress = progress

    def compile(
        self, student: Any, *, trainset: Sequence[Any], valset: Sequence[Any] | None = None, teacher: Any = None
    ) -> Any:
        """Optimize a program.

        Args:
            student: A `dspy.Module`; never changed.
            trainset: `dspy.Example`s with inputs, to learn from.
            valset: Examples to choose by. Default, also if it is empty: the training set. `dspy.BetterTogether` cuts
                an empty one off fewer than ten examples.
            teacher: Must be None: the program learns from its own runs.

        Returns:
            A copy of the program with what was learned, with `detailed_results` and `candidate_programs` (mappings
            with `score` and `program`, the best first; scores are means of the metric).

        Raises:
            SettingError: If options do not fit the program.
            DataError: If examples cannot be used.
            MetricError: If the metric fails.
            ModelError: If a model cannot be reached; go on later with `resume=True`.
        """
        if teacher is not None:
            raise ta.SettingError("TraceOptimizer takes no teacher: the student learns from its own runs.")
        target = self._target(student)
        train = _examples(target, trainset, "trainset")
        validation = _examples(target, () if valset is None else valset, "valset") or None
        _require_models(target)
        result = ta.optimize(
            target,
            train,
            self.metric,
            valset=validation,
            optimizer=self.optimizer,
            lm=self._model(),
            store=self.store,
            study=self.study,
            resume=self.resume,
            sandbox=self.sandbox,
            budget=self.budget,
            seed=self.seed,
            workers=self.num_threads or int(dspy.settings.get("num_threads") or 1),
            minibatch_size=self.minibatch_size,
            max_steps=self.max_steps,
            objective=self.objective,
            progress=self.progress,
        )
        return _with_results(target, result)

    def estimate(self, student: Any, trainset: Sequence[Any], valset: Sequence[Any] | None = None) -> Estimate:
        """What `compile` with these arguments may cost at most; asks no model and runs nothing."""
        target = self._target(student)
        train = _examples(target, trainset, "trainset")
        chosen = _examples(target, () if valset is None else valset, "valset") or train
        return estimate(
            target,
            train,
            chosen,
            prompts=[_prompt_text(predictor) for _, predictor in student.named_predictors()],
            optimizer=self.optimizer,
            budget=self.budget,
            minibatch_size=self.minibatch_size,
            max_steps=self.max_steps,
        )

    def _model(self) -> Any:
        chosen = dspy.settings.lm if self.lm is None else self.lm
        return as_lm(chosen) if shims.is_language_model(chosen) else chosen

    def _optimizers(self) -> list[Any]:
        is_one = isinstance(self.optimizer, str) or not isinstance(self.optimizer, Sequence)
        return [self.optimizer] if is_one else list(self.optimizer)

    def _target(self, student: Any) -> DspyTarget:
        wants_demos = "demos" in self._optimizers() and "demos" not in self.train
        train = (*self.train, "demos") if wants_demos else self.train
        target = DspyTarget(student, train, self.include, self.freeze)
        if not attach.parameters(student, attach.KINDS):
            raise ta.SettingError(
                f"{type(student).__name__} has no parameters: it holds no predictor, tad.Function or tad.Text that may "
                "change (parts with _compiled=True stay as they are)."
            )
        if not target.parameters():
            raise ta.SettingError(
                f"{type(student).__name__} has nothing left to train with train={train!r}, include={self.include!r}, "
                f"freeze={self.freeze!r}; freeze less, or train more."
            )
        return target


def _examples(target: DspyTarget, examples: Any, name: str) -> list[Any]:
    if not isinstance(examples, Iterable):
        raise ta.DataError(f"{name} must be a sequence of dspy.Examples, got {examples!r}.")
    found = list(examples)
    for example in found:
        target.inputs(example)
    return found


def _with_results(target: DspyTarget, result: Any) -> Any:
    study = result.study
    measured = [trial for trial in study.trials() if trial.score is not None and trial.state == "done"]
    candidates = [study.candidate(trial.candidate_key) for trial in measured]
    scores = [float(trial.score) for trial in measured]
    program = result.program
    programs = [
        {"score": score, "program": target.with_values(candidate)}
        for candidate, score in zip(candidates, scores, strict=True)
    ]
    program.candidate_programs = sorted(programs, key=lambda entry: -entry["score"])
    program.detailed_results = DetailedResults(
        candidates,
        scores,
        dict(result.best.candidate),
        result.best.score,
        result.base_score,
        result.metric_calls,
        result.stopped,
        study.address,
        study.name,
    )
    return program


def _require_models(target: DspyTarget) -> None:
    predictors = target.program.named_predictors()
    own = {id(predictor.lm) for _, predictor in predictors}
    held = [part for part in target.shared.values() if shims.is_language_model(part) and id(part) not in own]
    if dspy.settings.lm is not None or held:  # the program may set one that it holds by `dspy.context`
        return
    without = [name for name, predictor in predictors if predictor.lm is None]
    if without:
        raise ta.ModelUnavailable(
            f"The predictors {', '.join(without)} have no language model; dspy.configure(lm=dspy.LM(...)) first."
        )


def _prompt_text(predictor: Any) -> str:
    return "\n".join([predictor.signature.instructions, *(str(demo) for demo in predictor.demos)])

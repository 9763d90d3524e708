"""The command `optimize`: a program of the user's, from the command line.

    trace-adapters optimize path/to/file.py:build --data questions.json --model local --study mine

The target is a function of the user's, in a file or in a module (`package.module:build`; the name `build` may be
left out). It takes whichever of these it wants, by name, and is called once:

    lm      the model of --model, --base-url (a `ta.LM`)
    data    --data, as it was given: a path, a URL, the name of a task
    task    --task
    seed    --seed

and returns a mapping, or an object with attributes, of

    program, trainset, metric     as for `trace_adapters.optimize`
    valset                        examples to choose by; default the training examples
    testset                       held-out examples: judged before and after, and never chosen by
    lm                            a model of another kind, for the optimizer
    objective                     what to achieve, in words
    save                          save(program, directory): keep the learned program the framework's own way
    facts                         a mapping of what the report should say beside the scores, e.g. {"task": …}

For example:

    def build(lm, data, seed=0):
        train, val, test = load(data, seed)
        return {"program": QA(lm), "trainset": train, "valset": val, "testset": test, "metric": exact_match}
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from trace_adapters.cli.held_out import judge_held_out
from trace_adapters.cli.jobs import Job, accepts, build_job, find_factory
from trace_adapters.cli.outcome import require_result_place, show_outcome, write_outcome
from trace_adapters.cli.printing import Page
from trace_adapters.cli.stores import StoreOption, store_address
from trace_adapters.errors import SettingError
from trace_adapters.lm import LM
from trace_adapters.optimization import ASKING, Result, optimize as run
from trace_adapters.sandboxing import AUTO, BWRAP, STRICT
from trace_adapters.search.budget import Budget
from trace_adapters.study.export import PROGRAM_FOLDER, require_export_place

INTERRUPTED = 130
_SANDBOXES = (AUTO, STRICT, BWRAP)


def optimize(
    target: Annotated[str, typer.Argument(metavar="FILE.py:FUNCTION", help="What builds the program and its data.")],
    data: Annotated[str | None, typer.Option(metavar="PATH_OR_URL", help="Passed to the function.")] = None,
    task: Annotated[str | None, typer.Option(help="Passed to the function.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The program's model: 'local', 'local:NAME' or a server's name.")
    ] = None,
    base_url: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    optimizer_model: Annotated[str | None, typer.Option(help="The model that proposes. Default: --model.")] = None,
    optimizer: Annotated[
        str, typer.Option(help="'optoprime', 'textgrad', 'demos', or several with commas.")
    ] = "optoprime",
    store: StoreOption = None,
    study: Annotated[
        str | None, typer.Option(help="Name in the store. Default: the program's class and a free number.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the study.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed and replies give the same trials.")] = 0,
    metric_calls: Annotated[
        int | None,
        typer.Option("--metric-calls", "--budget", help="Judged runs of the program at most, over all sessions."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens at most, over all sessions.")] = None,
    usd: Annotated[float | None, typer.Option(help="Dollars at most, over all sessions.")] = None,
    wall: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds at most; --resume has them again.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Runs of the program side by side.")] = 1,
    export: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the best candidate as files.")] = None,
    result_file: Annotated[
        Path | None, typer.Option("--result", metavar="FILE", help="Write scores, calls and tokens as JSON.")
    ] = None,
    limit_test: Annotated[int | None, typer.Option(help="Judge only so many held-out examples.", min=1)] = None,
    minibatch: Annotated[int, typer.Option(help="Training examples that a step looks at.")] = 4,
    max_steps: Annotated[int | None, typer.Option(help="Steps at most.")] = None,
    sandbox: Annotated[
        str | None, typer.Option(help="Where learned code runs: 'auto', 'strict' or 'bwrap'. Default: 'auto'.")
    ] = None,
    progress: Annotated[bool, typer.Option("--progress/--no-progress", help="Show how far it is.")] = True,
) -> None:
    """Optimize a program. Ctrl-C ends it with the best so far, a second one at once; --resume goes on."""
    started = time.monotonic()
    if resume and study is None:
        raise SettingError("expected --study with --resume: the name of the study to go on with")
    if sandbox is not None and sandbox not in _SANDBOXES:
        raise SettingError(f"expected --sandbox {', '.join(_SANDBOXES[:-1])} or {_SANDBOXES[-1]}, got {sandbox!r}")
    if export is not None:
        require_export_place(export)
    if result_file is not None:
        require_result_place(result_file)
    budget = _budget(metric_calls=metric_calls, tokens=tokens, usd=usd, wall_s=wall)
    optimizers = [name.strip() for name in optimizer.split(",") if name.strip()]
    factory = find_factory(target)
    lm = _program_model(factory, model, base_url, optimizer_model, optimizers)
    required = [name for name, value in {"data": data, "task": task}.items() if value is not None]
    job = build_job(factory, {"lm": lm, "data": data, "task": task, "seed": seed}, required)
    job = replace(job, testset=list(job.testset)[:limit_test])
    result = run(
        job.program,
        job.trainset,
        job.metric,
        valset=job.valset,
        optimizer=optimizers,
        lm=_model(optimizer_model, base_url) or job.lm or lm,
        objective=job.objective,
        store=store_address(store),
        study=study,
        resume=resume,
        budget=budget,
        seed=seed,
        workers=workers,
        minibatch_size=minibatch,
        max_steps=max_steps,
        sandbox=sandbox,
        progress=progress,
    )
    _finish(
        result,
        job,
        store=store_address(store),
        models=(model, optimizer_model),
        workers=workers,
        sandbox=sandbox,
        progress=progress,
        export=export,
        result_file=result_file,
        started=started,
    )


def _budget(**limits: float | None) -> Budget | None:
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return Budget(**given) if given else None  # type: ignore[arg-type]


def _program_model(
    factory: Callable[..., Any],
    model: str | None,
    base_url: str | None,
    optimizer_model: str | None,
    optimizers: Sequence[str],
) -> LM | None:
    proposes = any(name in ASKING for name in optimizers) and optimizer_model is None
    if model is not None and not accepts(factory, "lm") and not proposes:
        raise SettingError("nothing uses --model: the function takes no 'lm', and the optimizer has none or another")
    if base_url is not None and model is None and optimizer_model is None:
        raise SettingError("expected --model or --optimizer-model with --base-url: the name the server knows")
    return _model(model, base_url)


def _model(name: str | None, base_url: str | None) -> LM | None:
    if name is None:
        return None
    local = name.partition(":")[0] == "local"
    lm = LM(name, base_url=None if local else base_url)
    lm.check()
    return lm


def _finish(
    result: Result,
    job: Job,
    *,
    store: str,
    models: tuple[str | None, str | None],
    workers: int,
    sandbox: str | None,
    progress: bool,
    export: Path | None,
    result_file: Path | None,
    started: float,
) -> None:
    interrupted = result.stopped == "interrupted"
    scores = None
    if job.testset and not interrupted:
        scores = judge_held_out(job, result, workers=workers, sandbox=sandbox, progress=progress)
    page = Page()
    show_outcome(page, result, job, store, scores)
    write = partial(
        write_outcome,
        result=result,
        job=job,
        scores=scores,
        store=store,
        model=models[0],
        optimizer_model=models[1],
        wall_s=time.monotonic() - started,
    )
    if result_file is not None:
        write(result_file, export=None)
        page.line(f"\nwrote {result_file}")
    if export is not None:
        _export(result, job, export)
        page.line(f"\nwrote {export}")
        if result_file is not None:
            write(result_file, export=export)
    if interrupted:
        page.line(f"\ninterrupted: the same command with --resume --study {result.study.name} goes on")
        raise typer.Exit(INTERRUPTED)


def _export(result: Result, job: Job, directory: Path) -> None:
    result.study.export(directory, result.study.add_candidate(result.best.candidate))
    if job.save is not None:
        folder = directory / PROGRAM_FOLDER
        folder.mkdir()
        try:
            job.save(result.program, folder)
        except Exception as error:  # the user's function
            raise SettingError(
                f"the job's save() failed: {type(error).__name__}: {error}; the study and the exported files are kept"
            ) from error

"""What `optimize` optimizes: found by name, built by the user's own function."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from trace_adapters.errors import SettingError, TraceAdaptersError

DEFAULT_FACTORY = "build"


@dataclass(frozen=True)
class Job:
    """What there is to optimize.

    Attributes:
        valset: Examples to choose by; None: the training examples.
        testset: Held out: judged before and after, chosen by never.
        lm: The model that proposes, unless one is named on the command line.
        objective: What to achieve, in words, for the optimizer.
        facts: What the report should say beside the scores, for instance the task or a majority class.
        save: `save(program, directory)` keeps the learned program the framework's own way, in a folder
            of the export.
    """

    program: Any
    trainset: Sequence[Any]
    metric: Callable[..., Any]
    valset: Sequence[Any] | None = None
    testset: Sequence[Any] = ()
    lm: Any = None
    objective: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    save: Callable[[Any, Path], Any] | None = None


def find_factory(target: str) -> Callable[..., Any]:
    """The function that `path/to/file.py:function` or `package.module:function` names; without one, `build`.

    Runs the file, as Python would.

    Raises:
        SettingError: If it cannot be found or does not run.
    """
    place, _, name = target.rpartition(":")
    if not place or not name.isidentifier():
        place, name = target, DEFAULT_FACTORY
    try:
        module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    except TraceAdaptersError:
        raise
    except Exception as error:  # the user's module
        raise SettingError(f"{place} does not run: {_where(error)}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        there = ", ".join(functions) or "none"
        raise SettingError(f"expected a function {name!r} in {place}, got {factory!r}; its functions: {there}")
    return factory  # type: ignore[no-any-return]


def accepts(factory: Callable[..., Any], name: str) -> bool:
    """Whether a factory takes the option `name`."""
    parameters = inspect.signature(factory).parameters
    return name in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def build_job(factory: Callable[..., Any], options: Mapping[str, Any], required: Sequence[str]) -> Job:
    """Call a factory with the options that it takes; `required` are those that the user gave.

    Raises:
        SettingError: If the factory needs what was not given, or does not take what was, or fails.
    """
    name = getattr(factory, "__qualname__", repr(factory))
    unused = [option for option in required if not accepts(factory, option)]
    if unused:
        raise SettingError(f"{name}() takes no {unused[0]!r}; leave out --{unused[0]}, or add it to its parameters")
    given = {key: value for key, value in options.items() if value is not None and accepts(factory, key)}
    parameters = inspect.signature(factory).parameters.values()
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            _require_given(name, parameter.name, given, options)
    try:
        built = factory(**given)
    except TraceAdaptersError:
        raise
    except Exception as error:  # the user's function
        raise SettingError(f"{name}() failed: {_where(error)}") from error
    return _read_job(name, built)


def _require_given(name: str, wanted: str, given: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    if wanted in given:
        return
    if wanted not in options:
        raise SettingError(f"{name}() needs {wanted!r}, which is no option; it may take {', '.join(options)}")
    flag = "--model NAME (for instance --model local)" if wanted == "lm" else f"--{wanted}"
    raise SettingError(f"{name}() needs {wanted!r}; give {flag}")


def _read_job(name: str, built: Any) -> Job:
    names = [field.name for field in fields(Job)]
    found = built if isinstance(built, Mapping) else {n: getattr(built, n) for n in names if hasattr(built, n)}
    unknown = [key for key in found if key not in names]
    missing = [key for key in names[:3] if key not in found]
    if unknown or missing:
        what = f"no {', '.join(missing)}" if missing else f"the unknown {', '.join(map(str, unknown))}"
        raise SettingError(
            f"expected {name}() to return a mapping or an object with {', '.join(names[:3])} "
            f"and perhaps {', '.join(names[3:])}; got {what} in a {type(built).__name__}"
        )
    return Job(**found)


def _load_module(name: str) -> ModuleType:
    _put_first(Path.cwd())
    return import_module(name)


def _load_file(path: Path) -> ModuleType:
    path = path.absolute()
    if not path.is_file():
        raise SettingError(f"expected a Python file, found none at {str(path)!r}")
    package, top = [path.stem], path.parent
    while (top / "__init__.py").is_file():
        package, top = [top.name, *package], top.parent
    _put_first(top)
    if len(package) > 1:  # a file of a package: its relative imports must work
        return import_module(".".join(package))
    return _run_file(path)


def _run_file(path: Path) -> ModuleType:
    name = path.stem if path.stem not in sys.modules else f"{path.stem}_to_optimize"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise SettingError(f"expected a Python file, got {str(path)!r}")
    module = sys.modules[name] = module_from_spec(spec)  # dataclasses and pickles look here
    spec.loader.exec_module(module)
    return module


def _put_first(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


def _where(error: Exception) -> str:
    place, trace = "", error.__traceback__
    while trace is not None:
        place, trace = f" ({trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})", trace.tb_next
    if isinstance(error, SyntaxError):
        place = ""  # its message has it
    return f"{type(error).__name__}: {error}{place}; --debug shows all of it"

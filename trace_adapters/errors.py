"""The exceptions that trace-adapters raises.

TraceAdaptersError
├── ParameterError (ValueError)      a value does not fit its parameter
│   └── CodeError                    source that cannot be read, checked or compiled
├── ExecutionError (RuntimeError)    a recorded call failed; `.node` is the failed call
├── MetricError (RuntimeError)       the user's metric failed or returned no score
├── DataError (ValueError)           examples or files that cannot be used
├── SettingError (ValueError)        an option or a combination of options that cannot work
├── AdapterError (TypeError)         no adapter, or the target cannot be adapted
├── BudgetExceeded (RuntimeError)    the budget is spent; caught by the loop
├── ModelError (RuntimeError)        a language model call failed
│   ├── ModelUnavailable             no server, no weights, no key
│   └── ScriptExhausted              a scripted model has no reply left
├── SandboxError (RuntimeError)      code could not be run in the sandbox
│   ├── SandboxTimeout (TimeoutError)  it ran longer than allowed and was killed
│   ├── SandboxKilled                the worker died: memory, a signal, an exit
│   ├── SandboxUnavailable           this machine cannot confine code as was asked
│   └── UntrustedCode                the code was loaded and nobody has allowed it to run
└── StoreError (RuntimeError)        the store cannot be opened or written
    ├── StudyNotFound (LookupError)
    ├── StudyExists
    └── StoreTooNew                  written by a newer version of trace-adapters
"""

from __future__ import annotations

import re
from typing import Any

_NODE = r"(Node|NestedCall|Constant|Parameter)\b"  # classes of nodes, as messages of other libraries name them
_NAMES_A_NODE = re.compile(rf"(\btype |\bnot |\bgot |\binput_type=|['<])(trace_adapters\.\w+\.)?{_NODE}|{_NODE} found")
_NODE_HINT = "A plain function was given a node; decorate it with @ta.bundle, or pass node.data."


class TraceAdaptersError(Exception):
    """Root of every exception that this library raises on purpose."""


class ParameterError(TraceAdaptersError, ValueError):
    """A value does not fit its parameter."""


class CodeError(ParameterError):
    """Source cannot be read, checked or compiled."""


class ExecutionError(TraceAdaptersError, RuntimeError):
    """A recorded call failed.

    Attributes:
        node: The failed call. Its `data` is the original exception, which is also `__cause__`.
    """

    def __init__(self, message: str, node: Any = None) -> None:
        super().__init__(message)
        self.node = node

    @property
    def exception_node(self) -> Any:
        """The failed call, under the name that Trace gives it."""
        return self.node

    def __reduce__(self) -> Any:
        return type(self), (*self.args, self.node)


class MetricError(TraceAdaptersError, RuntimeError):
    """The user's metric failed or returned something that is no score.

    Attributes:
        raised: What the metric raised; None if it returned.
    """

    def __init__(self, message: str, raised: BaseException | None = None) -> None:
        super().__init__(message)
        self.raised = raised

    def __reduce__(self) -> Any:
        return type(self), (*self.args, self.raised)


class DataError(TraceAdaptersError, ValueError):
    """Examples or files that cannot be used."""


class SettingError(TraceAdaptersError, ValueError):
    """An option, or a combination of options, cannot work."""


class AdapterError(TraceAdaptersError, TypeError):
    """There is no adapter for a target, or the target cannot be adapted."""


class BudgetExceeded(TraceAdaptersError, RuntimeError):
    """The budget is spent; the loop catches this and returns the best so far."""


class ModelError(TraceAdaptersError, RuntimeError):
    """A language model call failed after the client's own retries."""


class ModelUnavailable(ModelError):
    """There is no model to talk to: no server, no weights or no key."""


class ScriptExhausted(ModelError):
    """A scripted model has no reply left."""


class SandboxError(TraceAdaptersError, RuntimeError):
    """Code could not be run in the sandbox."""


class SandboxTimeout(SandboxError, TimeoutError):
    """Code ran longer than its wall-clock limit and was killed."""


class SandboxKilled(SandboxError):
    """The worker process died while it ran code."""


class SandboxUnavailable(SandboxError):
    """This machine cannot confine code as was asked; never the code's own fault."""


class UntrustedCode(SandboxError):
    """Loaded code that nobody has allowed to run."""


class StoreError(TraceAdaptersError, RuntimeError):
    """The store cannot be opened, read or written."""


class StudyNotFound(StoreError, LookupError):
    """The store has no study of that name."""


class StudyExists(StoreError):
    """The store already has a study of that name."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of trace-adapters."""


def explain_nodes(error: BaseException) -> None:
    """Add to an error of a function that could not take a node what to do; leave any other error alone."""
    try:
        text = str(error)
    except Exception:  # its own text fails; the error itself matters more
        return
    if isinstance(error, TraceAdaptersError) or _NODE_HINT in text or not _NAMES_A_NODE.search(text):
        return
    if error.args == (text,):
        error.args = (f"{text}. {_NODE_HINT}",)
    elif _NODE_HINT not in getattr(error, "__notes__", ()):
        error.add_note(_NODE_HINT)

"""What a model is asked and what it replies, printed as it happens."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from trace_adapters.errors import SettingError
from trace_adapters.lm.ledger import CallRecord, record_calls
from trace_adapters.lm.messages import join_messages


def printed_calls(verbose: Any) -> AbstractContextManager[None]:
    """Print the model calls of the block: all of them if True, their replies if "output", nothing if False.

    Raises:
        SettingError: If `verbose` is something else.
    """
    if verbose == "output":
        return record_calls(_print_replies)
    if isinstance(verbose, bool):
        return record_calls(_print_call) if verbose else nullcontext()
    raise SettingError(f'verbose is True, False or "output", got {verbose!r}.')


def _print_call(call: CallRecord) -> None:
    print(f"{' prompt ':-^80}\n{join_messages(call.messages)}")  # noqa: T201  # what `verbose` does
    _print_replies(call)


def _print_replies(call: CallRecord) -> None:
    for text in call.replies or (call.error,):
        print(f"{' reply ':-^80}\n{text}")  # noqa: T201

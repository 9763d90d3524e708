"""Handlers that LangChain calls in the event loop itself, without silencing others."""

from __future__ import annotations

import inspect
import sys

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler

_START_OF_TEXT_MODELS = inspect.unwrap(AsyncCallbackManager.on_llm_start).__code__


class InlineHandler(BaseCallbackHandler):
    """A handler that is called at once: in async code, each event would else cost a task and a way through a thread.

    LangChain (0.3.40 and 1.7.2 were read) tells the start of an awaited text model to the inline handlers of the run
    or, only if it has none, to the others. One inline handler of ours would silence all of the user's. So when that
    method asks, ours are what the user's are; everywhere else they are inline.
    """

    @property
    def run_inline(self) -> bool:  # type: ignore[override]
        """Whether LangChain should call this handler in the event loop."""
        asking = sys._getframe(1)
        if asking.f_code.co_name == "<listcomp>" and asking.f_back is not None:  # a frame of its own until Python 3.12
            asking = asking.f_back
        if asking.f_code is not _START_OF_TEXT_MODELS:
            return True
        others = [one for one in asking.f_locals["self"].handlers if not isinstance(one, InlineHandler)]
        return not others or any(one.run_inline for one in others)

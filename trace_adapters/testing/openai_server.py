"""A local HTTP server that speaks OpenAI's chat protocol from a script, faults included."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class ChatRequest:
    """One request that the server got; the names of its headers in lower case."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The chat messages that were sent."""
        return list(self.body.get("messages", []))


@dataclass(frozen=True)
class Completion:
    """A good answer.

    Attributes:
        texts: One text a choice; a single one is repeated for every choice asked for with `n`.
        usage: Prompt and completion tokens; None leaves the field out, as some servers do.
        delay_s: Time before the answer.
    """

    texts: str | Sequence[str]
    usage: tuple[int, int] | None = (10, 5)
    finish_reason: str = "stop"
    delay_s: float = 0.0


@dataclass(frozen=True)
class Failure:
    """An answer with an error status; `retry_after_s` becomes the header Retry-After."""

    status: int
    message: str = "injected"
    retry_after_s: float | None = None


@dataclass(frozen=True)
class Garbage:
    """A 200 answer whose body is `text`, whatever it is."""

    text: str = "{ this is no JSON"
    content_type: str = "application/json"


@dataclass(frozen=True)
class Hangup:
    """No answer: the connection is closed."""


Answer = str | Completion | Failure | Garbage | Hangup


@dataclass
class OpenAIServer:
    """Answers chat requests from a list, in order, or with a function of the request.

    ```python
    with OpenAIServer([Failure(429, retry_after_s=0.01), "hello"]) as server:
        LM("any", base_url=server.base_url)("hi")
    ```

    A list that is used up is answered with status 400, which no client repeats.

    Attributes:
        script: Answers; a plain text is a `Completion`.
        api_key: If set, requests with another key get status 401.
        requests: What came, in order, repeated requests included.
    """

    script: Sequence[Answer] | Callable[[ChatRequest], Answer]
    api_key: str | None = None
    model: str = "stub"
    requests: list[ChatRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._http: ThreadingHTTPServer | None = None

    @property
    def base_url(self) -> str:
        """The address for OpenAI clients; the server must be running."""
        if self._http is None:
            raise RuntimeError("expected a running server; use `with OpenAIServer(...) as server:`")
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> OpenAIServer:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def answer(self, request: ChatRequest) -> Answer:
        """Note a request and take the next answer."""
        with self._lock:
            self.requests.append(request)
            if not callable(self.script):
                self._next += 1
                if self._next > len(self.script):
                    return Failure(400, f"the script has only {len(self.script)} answers")
                return self.script[self._next - 1]
        return self.script(request)


def _handler_of(server: OpenAIServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self._is_allowed():
                models = {"object": "list", "data": [{"id": server.model, "object": "model"}]}
                self._send(200, json.dumps(models))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self._is_allowed():
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = ChatRequest(self.path, json.loads(raw or b"{}"), headers)
            answer = server.answer(request)
            if isinstance(answer, Hangup):
                self.close_connection = True
            elif isinstance(answer, Garbage):
                self._send(200, answer.text, answer.content_type)
            elif isinstance(answer, Failure):
                self._fail(answer)
            else:
                completion = Completion(answer) if isinstance(answer, str) else answer
                time.sleep(completion.delay_s)
                self._send(200, json.dumps(_completion_body(completion, request, server.model)))

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing on stderr."""

        def _is_allowed(self) -> bool:
            if server.api_key is None or self.headers.get("Authorization") == f"Bearer {server.api_key}":
                return True
            self._fail(Failure(401, "wrong API key"))
            return False

        def _fail(self, failure: Failure) -> None:
            body = {"error": {"message": failure.message, "type": "injected", "code": failure.status}}
            wait = {} if failure.retry_after_s is None else {"Retry-After": f"{failure.retry_after_s:g}"}
            self._send(failure.status, json.dumps(body), headers=wait)

        def _send(
            self,
            status: int,
            text: str,
            content_type: str = "application/json",
            headers: Mapping[str, str] | None = None,
        ) -> None:
            data = text.encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(data)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client gave up, as it does after a timeout

    return Handler


def _completion_body(completion: Completion, request: ChatRequest, model: str) -> dict[str, Any]:
    texts = completion.texts
    choices = [texts] * int(request.body.get("n") or 1) if isinstance(texts, str) else list(texts)
    body: dict[str, Any] = {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": place,
                "finish_reason": completion.finish_reason,
                "message": {"role": "assistant", "content": text},
            }
            for place, text in enumerate(choices)
        ],
    }
    if completion.usage is not None:
        prompt, answered = completion.usage
        counts = {"prompt_tokens": prompt, "completion_tokens": answered, "total_tokens": prompt + answered}
        body["usage"] = counts
    return body

"""The process of the embedded model: llama.cpp's OpenAI-compatible server, alive as long as a client holds its lease.

`python -m trace_adapters.lm.local_server --model FILE --port 8080` serves a model in the foreground, for any OpenAI
client. `LM("local")` runs it with `--directory`, detached. Files in that directory:

    lease        clients hold a shared lock on it; the server leaves when it can lock it exclusively for a while
    server.lock  locked by the server as long as it lives: inherited from the process that started it
    state.json   address and key, written when the model is loaded
    server.log   what the server says; read when it does not start
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

POLL_S = 0.5
MOST_THREADS = 8  # beyond, memory bandwidth is the limit and more threads only wait for each other


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until no client is left, or until interrupted if there is no `--directory`."""
    options = _parser().parse_args(argv)
    key = options.api_key or (secrets.token_urlsafe(24) if options.directory else "")
    try:
        server = _start(options, key)
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    address = f"{server.listening_address}/v1"
    if options.directory is None:
        sys.stdout.write(f"{options.name} at {address}\n")
        sys.stdout.flush()
        return _sleep_forever()
    write_state(options.directory, {"pid": os.getpid(), "base_url": address, "api_key": key, "model": options.name})
    _wait_until_idle(options.directory / "lease", options.idle_s)
    (options.directory / "state.json").unlink(missing_ok=True)
    os._exit(0)  # the locks are freed by the kernel, after the server can no longer answer


def write_state(directory: Path, state: dict[str, Any]) -> None:
    """Write state.json in one piece, readable by its owner only."""
    draft = directory / f"state.{os.getpid()}.tmp"
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump(state, file)
    draft.replace(directory / "state.json")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trace_adapters.lm.local_server", description="Serve a GGUF model.")
    parser.add_argument("--model", type=Path, required=True, help="GGUF file")
    parser.add_argument("--name", default="local", help="what the model is called")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--api-key", default="", help="default: none; with --directory a random one")
    parser.add_argument("--threads", type=int, default=0, help="0: one for each core this process may use")
    parser.add_argument("--slots", type=int, default=1, help="requests answered at the same time")
    parser.add_argument("--context", type=int, default=8192, help="tokens of prompt and reply, for each slot")
    parser.add_argument("--batch", type=int, default=512, help="prompt tokens evaluated at once")
    parser.add_argument("--cache-mib", type=int, default=512, help="memory for prompts that no slot holds any more")
    parser.add_argument("--directory", type=Path, help="where lease and state are; without it: foreground")
    parser.add_argument("--idle-s", type=float, default=5.0, help="leave when nobody has held the lease for so long")
    return parser


def _set_waiting() -> None:
    """Let waiting threads spin shortly on an idle machine and sleep on a busy one (docs/local-models.md).

    Long spinning made a busy machine nine times slower; sleeping costs a quarter of the speed where nothing else runs.
    """
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        return
    if os.getloadavg()[0] > 0.75 * (os.cpu_count() or 1):
        os.environ["OMP_WAIT_POLICY"] = "passive"
    else:
        os.environ["GOMP_SPINCOUNT"] = "3000"


def _start(options: argparse.Namespace, key: str) -> Any:
    _set_waiting()
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(options.model)
    params.model_alias = {options.name}
    params.port = options.port
    params.api_keys = [key] if key else []
    params.n_ctx = options.context * options.slots
    params.n_parallel = options.slots
    params.n_batch = max(options.batch, 32)
    params.n_ubatch = max(options.batch, 32)
    threads = options.threads or _usable_cores()
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = options.cache_mib
    params.use_jinja = True
    params.ui = False
    params.verbosity = 1  # errors: the log of a long run stays small
    return xllamacpp.Server(params)


def _usable_cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else (os.cpu_count() or 1)
    return min(cores, MOST_THREADS)


def _wait_until_idle(lease: Path, idle_s: float) -> None:
    """Return, with the lease locked exclusively, when no client has held it for `idle_s` seconds."""
    handle = os.open(lease, os.O_RDWR | os.O_CREAT, 0o600)
    idle_since: float | None = None
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            idle_since = None
        else:
            now = time.monotonic()
            idle_since = now if idle_since is None else idle_since
            if now - idle_since >= idle_s:
                return  # still locked: who asks for the lease now waits until this process is gone
            fcntl.flock(handle, fcntl.LOCK_UN)
        time.sleep(POLL_S)


def _sleep_forever() -> int:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())

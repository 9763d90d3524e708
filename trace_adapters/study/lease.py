"""Who may write a study: one live process at a time."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select, update

from trace_adapters.errors import StoreError
from trace_adapters.study import schema
from trace_adapters.study.database import Database

_BEAT_S = 10.0
_DEAD_AFTER_S = 60.0
_PF_EXITING = 0x4  # include/linux/sched.h: killed, its files are closed, but it is not yet a zombie


class Lease:
    """The right to write a study, taken at creation, given back by `release` or `with`.

    A thread renews it. A killed owner is noticed at once on this machine, elsewhere (or in another container)
    when it has not renewed for 60 s.

    Raises:
        StoreError: If a live process holds the study.
    """

    def __init__(self, database: Database, study_id: int, name: str, owner: str) -> None:
        self._database, self._study_id, self._name = database, study_id, name
        self._token = uuid.uuid4().hex
        self._released = threading.Event()
        with database.write() as connection:
            self._take(connection, owner)
        threading.Thread(target=self._renew, name="trace-adapters lease", daemon=True).start()

    def release(self) -> None:
        """Let the next one in. A second call does nothing."""
        if not self._released.is_set():
            self._released.set()
            self._set_if_mine(owner=None, lease=None, heartbeat=None)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _take(self, connection: Connection, owner: str) -> None:
        study = schema.study.c
        held, beat = connection.execute(select(study.owner, study.heartbeat).where(study.id == self._study_id)).one()
        if is_alive(held, beat):
            raise StoreError(
                f"the study {self._name!r} is in use by {held['label']!r} (process {held['pid']} on "
                f"{held['host']}); wait for it to end, end it, or give this run another study name"
            )
        mine = {
            "owner": _this_process(owner),
            "lease": self._token,
            "heartbeat": time.time(),
            "state": "open",
        }
        connection.execute(update(schema.study).where(study.id == self._study_id).values(**mine))

    def _renew(self) -> None:
        while not self._released.wait(_BEAT_S):
            try:
                still_mine = self._set_if_mine(heartbeat=time.time())
            except StoreError:  # a full disk or a long transaction: the run itself will say so
                continue
            if not still_mine:
                return

    def _set_if_mine(self, **values: Any) -> bool:
        study = schema.study.c
        mine = update(schema.study).where(study.id == self._study_id, study.lease == self._token)
        with self._database.write() as connection:
            return connection.execute(mine.values(**values)).rowcount == 1


def is_alive(owner: dict[str, Any] | None, heartbeat: float | None) -> bool:
    """Whether the owner of a lease still runs.

    Args:
        owner: As written when the lease was taken; None if nobody holds it.
        heartbeat: When the lease was last renewed, seconds since the epoch.
    """
    if owner is None or heartbeat is None:
        return False
    here = _this_process("")
    if owner["place"] != here["place"] or here["started"] is None:
        return time.time() - heartbeat < _DEAD_AFTER_S
    return bool(_start_of(owner["pid"]) == owner["started"])


def _this_process(label: str) -> dict[str, Any]:
    pid, host = os.getpid(), socket.gethostname()
    return {"label": label, "pid": pid, "host": host, "place": _place(host), "started": _start_of(pid)}


def _place(host: str) -> str:
    # Process ids mean something only within one boot of one machine and one container.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{host} {boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return host


def _start_of(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None if it is dead or the system has no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    state, flags, started = fields[0], int(fields[6]), fields[19]
    return None if state in "ZX" or flags & _PF_EXITING else started

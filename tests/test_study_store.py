"""The store opens or says why not; processes share it; a killed one loses nothing it was told is written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from trace_adapters.errors import StoreError, StoreTooNew
from trace_adapters.study import ProposalRecord, Store, Study, lease
from trace_adapters.study.lease import is_alive
from trace_adapters.study.schema import SCHEMA_VERSION

ROOT = Path(__file__).resolve().parent.parent


def start(script: str, *args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("address", ["study.db", "sqlite:///study.db", Path("study.db")])
def test_a_store_is_named_by_a_path_or_a_url(
    address: str | Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(address) as store:
        store.create_study("s", base={"x": 1})
    with Store.open(tmp_path / "study.db", create=False) as store:
        assert [info.name for info in store.studies()] == ["s"]
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]


def test_what_cannot_be_a_store_is_refused_with_what_to_do(tmp_path: Path) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.db"
    text.write_text("These are my notes. " * 100)
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    cases = [
        (text, True, "expected a SQLite database, got a file of another kind"),
        (tmp_path / "no" / "study.db", True, f"create '{tmp_path / 'no'}' first"),
        (tmp_path, True, "name a file in it"),
        (tmp_path / "none.db", False, "expected a store, found none"),
        (other, False, "expected a store of trace-adapters, got another database"),
        ("", True, "got an empty one"),
        ("postgresql://localhost/x", True, "SQLite files only"),
        ("sqlite:/study.db", True, "expected a store such as"),
        ("sqlite://study.db", True, "expected three slashes"),
        ("what://", True, "SQLite files only"),
        ("sqlite+aiosqlite:///study.db", True, "leave the driver out"),
        ("study\0.db", True, "name a file in UTF-8"),
        ("study\ud800.db", True, "name a file in UTF-8"),
    ]
    for address, create, message in cases:
        with pytest.raises(StoreError) as caught:
            Store.open(address, create=create)
        assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "other.db"]
    assert text.read_text() == "These are my notes. " * 100


def test_a_store_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE ta_schema SET version = ?", (SCHEMA_VERSION + 1,))
    with pytest.raises(StoreTooNew, match="upgrade trace-adapters"):
        Store.open(path)


def test_a_read_only_store_says_so(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Store.open(path) as store:
        store.create_study("s", base={"x": 1})
    with Store.open(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.load_study("s").candidate(store.load_study("s").base_key) == {"x": 1}
        with pytest.raises(StoreError, match="change the permissions"):
            store.create_study("t", base={"x": 1})


def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study.db") as store:
        study = store.create_study("s", base={"x": 1})
        with store._database.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 60")
        with pytest.raises(StoreError, match="no space is left"):
            _fill(study)
    with Store.open(tmp_path / "study.db") as store:
        kept = store.load_study("s").evaluations()
    assert 0 < len(kept) < 200
    assert all(len(record.output) == 8000 for record in kept)


def _fill(study: Study) -> None:
    for i in range(200):
        study.record_evaluation(study.base_key, "val", str(i), score=i, output=os.urandom(4000).hex())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with Store.open(path) as store:
        study = store.create_study("s", base={"x": 1})
        for i in range(50):
            study.record_evaluation(study.base_key, "val", str(i), score=i, output=os.urandom(500).hex())
    data = bytearray(path.read_bytes())
    data[4096 * 2 :] = b"\xff" * (len(data) - 4096 * 2)
    path.write_bytes(data)
    with pytest.raises(StoreError), Store.open(path) as store:
        store.load_study("s").evaluations()


_READINGS = {
    "studies": lambda store: store.studies(),
    "trials": lambda store: store.load_study("s").trials(),
    "steps": lambda store: store.load_study("s").steps(),
    "evaluations": lambda store: store.load_study("s").evaluations(),
    "events": lambda store: store.load_study("s").events(),
    "values": lambda store: store.load_study("s").candidate(store.load_study("s").base_key),
}


def _small_store(path: Path) -> None:
    with Store.open(path) as store:
        study = store.create_study("s", base={"x": "a text that is kept as it is"})
        study.record_evaluation(study.base_key, "val", "1", score=1.0, output="long " * 200, feedback="good")
        study.record_step(0, [ProposalRecord(study.base_key, None, "o", "why", "bad", "reply")])
        study.record_trial(0, study.base_key, origin="base", score=1.0, accepted=True)
        study.record_event("begun", {"n": 1})


@pytest.mark.parametrize(
    ("damage", "reading"),
    [
        ("UPDATE ta_blob SET data = x'00ff'", "evaluations"),
        ("UPDATE ta_blob SET codec = 'other'", "evaluations"),
        ("UPDATE ta_blob SET data = replace(data, 'text', 'test')", "values"),
        ("DELETE FROM ta_blob", "values"),
        ("UPDATE ta_evaluation SET trace_sha = x'00ff'", "evaluations"),
        ("UPDATE ta_evaluation SET score = 'high'", "evaluations"),
        ("UPDATE ta_evaluation SET score_odd = 'high'", "evaluations"),
        ("UPDATE ta_evaluation SET usage = '[1]'", "evaluations"),
        ("UPDATE ta_trial SET metrics = '{'", "trials"),
        ("UPDATE ta_proposal SET rejected = 'no JSON'", "steps"),
        ("UPDATE ta_event SET payload = x'ff'", "events"),
        ("UPDATE ta_study SET space = '[1]'", "values"),
        ("UPDATE ta_study SET config = '1'", "values"),
        ("UPDATE ta_study SET owner = '[1]', heartbeat = 1", "studies"),
        ("UPDATE ta_schema SET version = 'first'", "studies"),
        ("DROP TABLE ta_event", "events"),
    ],
)
def test_damage_inside_of_the_database_is_named(tmp_path: Path, damage: str, reading: str) -> None:
    """What is kept is never returned as something else, and no inner error reaches the user."""
    path = tmp_path / "study.db"
    _small_store(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(StoreError, match=r"damaged|no such table"), Store.open(path) as store:
        _READINGS[reading](store)


def test_any_damaged_byte_gives_a_store_error_or_none(tmp_path: Path) -> None:
    whole = tmp_path / "whole.db"
    _small_store(whole)
    data, random = whole.read_bytes(), Random(0)
    refused = 0
    for number in range(100):
        broken = bytearray(data)
        for _ in range(random.choice([1, 5, 50])):
            broken[random.randrange(len(broken))] = random.randrange(256)
        path = tmp_path / f"{number}.db"
        path.write_bytes(broken[: random.randrange(len(broken))] if number % 5 == 0 else broken)
        try:
            with Store.open(path, create=False) as store:
                for reading in _READINGS.values():
                    reading(store)
        except StoreError:
            refused += 1
    assert refused > 10


def test_processes_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    script = """
import sys
from trace_adapters.study import Store
with Store.open(sys.argv[1]) as store:
    study = store.create_study(sys.argv[2], base={"x": 1})
    for i in range(20):
        study.record_evaluation(study.base_key, "val", str(i), score=i, output="same for all")
"""
    running = [start(script, tmp_path / "study.db", name) for name in "abc"]
    for process in running:
        process.communicate(timeout=60)
    assert [process.returncode for process in running] == [0, 0, 0]
    with Store.open(tmp_path / "study.db") as store:
        assert [len(store.load_study(name).evaluations()) for name in "abc"] == [20, 20, 20]


def test_what_a_killed_process_was_told_is_written_is_there(tmp_path: Path) -> None:
    script = """
import sys
from trace_adapters.study import Store
study = Store.open(sys.argv[1]).create_study("s", base={"x": 1})
study.lock("victim")
for i in range(10_000):
    study.record_evaluation(study.base_key, "val", str(i), score=i, output=str(i) * 500)
    print(i, flush=True)
"""
    victim = start(script, tmp_path / "study.db")
    seen = [victim.stdout.readline() for _ in range(40)]
    victim.kill()
    seen += victim.stdout.readlines()
    with Store.open(tmp_path / "study.db") as store:  # not waited for: a dead owner is seen even as a zombie
        study = store.load_study("s")
        with study.lock("heir"):
            for i in range(int(seen[-1] if seen[-1].endswith("\n") else seen[-2]) + 1):
                assert study.find_evaluation(study.base_key, "val", str(i)).output == str(i) * 500
    victim.wait(10)
    victim.stdout.close()


def test_a_study_has_one_live_owner(tmp_path: Path) -> None:
    script = """
import sys
from trace_adapters.study import Store
with Store.open(sys.argv[1]) as store, store.load_study("s") as study:
    study.lock("the other run")
    print("locked", flush=True)
    sys.stdin.readline()
"""
    with Store.open(tmp_path / "study.db") as store:
        study = store.create_study("s", base={"x": 1})
        command = [sys.executable, "-c", script, str(tmp_path / "study.db")]
        other = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(StoreError, match=f"in use by 'the other run' \\(process {other.pid} on"):
            study.lock("me")
        assert store.studies()[0].state == "running"
        other.communicate("go\n", timeout=60)
        with study.lock("me"), pytest.raises(StoreError, match="in use by 'me'"):
            store.load_study("s").lock("me too")
        study.lock("me again")
        study.close()
        study.lock("and again").release()


def test_an_owner_elsewhere_lives_as_long_as_it_renews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease.time, "time", lambda: 1_000_000.0)
    owner = {"label": "x", "pid": os.getpid(), "host": "far", "place": "far 1 2", "started": "1"}
    assert is_alive(owner, 1_000_000.0 - 59)
    assert not is_alive(owner, 1_000_000.0 - 61)
    assert not is_alive(None, None)


def test_a_process_with_the_number_of_a_dead_one_is_not_its_heir() -> None:
    owner = lease._this_process("me")
    assert is_alive(owner, 0.0)
    assert not is_alive({**owner, "started": "1"}, 0.0)
    assert not is_alive({**owner, "pid": 2**22 + 1}, 0.0)


def test_a_lease_that_was_lost_is_not_given_back_for_its_heir(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study.db") as store:
        study = store.create_study("s", base={"x": 1})
        first = study.lock("slow")
        with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
            connection.execute("UPDATE ta_study SET lease = 'another'")
        first.release()
        assert store.studies()[0].state == "running"


def test_a_store_in_memory_serves_threads() -> None:
    with Store.open(":memory:") as store:
        study = store.create_study("s", base={"x": 1})

        def work(i: int) -> float:
            study.record_evaluation(study.base_key, "val", str(i), score=i)
            return study.find_evaluation(study.base_key, "val", str(i)).score

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(work, range(60))) == list(range(60))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_uses_connections_of_its_own(tmp_path: Path) -> None:
    script = """
import os, sys
from trace_adapters.study import Store
store = Store.open(sys.argv[1])
study = store.create_study("s", base={"x": 1})
child = os.fork()
for i in range(20):
    study.record_evaluation(study.base_key, "val", f"{bool(child)} {i}", score=i)
if child == 0:
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1] or len(study.evaluations()) != 40)
"""
    process = start(script, tmp_path / "study.db")
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_studies_share_equal_blobs(tmp_path: Path) -> None:
    with Store.open(tmp_path / "study.db") as store:
        for name in "abc":
            study = store.create_study(name, base={"x": "long " * 1000})
            study.add_candidate({"x": "long " * 1000, "y": "long " * 1000})
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        assert connection.execute("SELECT codec, size FROM ta_blob").fetchall() == [("zlib", 5002)]


def test_a_store_that_may_not_be_written_can_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a read-only file system, where SQLite can make none of the files that it keeps beside the database."""
    folder = tmp_path / "50 % of #1?"
    folder.mkdir()
    with Store.open(folder / "study.db") as store:
        store.create_study("s", base={"p": 1})
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    with Store.open(folder / "study.db", create=False) as store:
        assert [info.name for info in store.studies()] == ["s"]
        assert store.load_study("s").candidate(store.load_study("s").base_key) == {"p": 1}
        assert sorted(path.name for path in folder.iterdir()) == before
        with pytest.raises(StoreError, match="read-only"):
            store.create_study("t", base={"p": 1})


def test_what_a_living_writer_has_not_merged_yet_is_seen_in_a_read_only_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "study.db") as writer:
        writer.create_study("s", base={"p": 1})
        monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
        with Store.open(tmp_path / "study.db", create=False) as store:
            assert [info.name for info in store.studies()] == ["s"]

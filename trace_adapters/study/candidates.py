"""Blobs and candidates as rows."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, select

from trace_adapters.errors import StoreError
from trace_adapters.study import schema
from trace_adapters.study.database import DAMAGED, insert_missing, insert_row
from trace_adapters.study.records import Values
from trace_adapters.study.values import candidate_key, digest, pack, require_name, unpack


def write_blobs(connection: Connection, texts: Iterable[str | None]) -> list[str | None]:
    """Keep each text once; returns its sha256, None for None."""
    rows = [None if text is None else _blob_row(text) for text in texts]
    insert_missing(connection, schema.blob, list({row["sha"]: row for row in rows if row}.values()))
    return [row["sha"] if row else None for row in rows]


def read_blobs(connection: Connection, shas: Iterable[str | None]) -> dict[str | None, str | None]:
    """The texts of some blobs by their sha256; None stands for None.

    Raises:
        StoreError: If one is not there, or is not what its name says.
    """
    wanted = sorted({sha for sha in shas if sha is not None})
    texts: dict[str | None, str | None] = {None: None}
    for start in range(0, len(wanted), 500):  # SQLite allows only so many variables in a statement
        blob = schema.blob.c
        query = select(blob.sha, blob.codec, blob.data).where(blob.sha.in_(wanted[start : start + 500]))
        for sha, codec, packed in connection.execute(query):
            data = unpack(codec, packed)
            if digest(data) != sha:
                raise StoreError(DAMAGED)
            texts[sha] = data.decode("utf-8", "surrogatepass")
    if len(texts) <= len(wanted):
        raise StoreError(DAMAGED)
    return texts


def write_candidate(connection: Connection, study_id: int, values: Values) -> str:
    """Keep a candidate, its values as rows; returns its key. One that is there is not written again."""
    key = candidate_key(values)
    if find_candidate_id(connection, study_id, key) is None:
        row = {"study_id": study_id, "key": key, "created": time.time()}
        candidate_id = insert_row(connection, schema.candidate, row)
        shas = write_blobs(connection, (json.dumps(value, ensure_ascii=False) for value in values.values()))
        rows = [_param_row(candidate_id, name, values[name], sha) for name, sha in zip(values, shas, strict=True)]
        insert_missing(connection, schema.cand_param, rows)
    return key


def find_candidate_id(connection: Connection, study_id: int, key: str) -> int | None:
    """The row of a candidate."""
    candidate = schema.candidate.c
    found: int | None = connection.execute(
        select(candidate.id).where(candidate.study_id == study_id, candidate.key == key)
    ).scalar_one_or_none()
    return found


def candidate_id(connection: Connection, study_id: int, key: str) -> int:
    """The row of a candidate that must be there."""
    found = find_candidate_id(connection, study_id, key) if isinstance(key, str) else None
    if found is None:
        raise StoreError(f"expected the key of a candidate of this study, got {key!r}; add the candidate first")
    return found


def read_values(connection: Connection, candidate_id: int) -> dict[str, Any]:
    """Parameter key -> value of one candidate."""
    param = schema.cand_param.c
    query = select(param.name, param.sha).where(param.candidate_id == candidate_id).order_by(param.name)
    rows = connection.execute(query).all()
    texts = read_blobs(connection, (sha for _, sha in rows))
    return {name: json.loads(texts[sha] or "null") for name, sha in rows}


def keys_of(connection: Connection, study_id: int) -> Mapping[int, str]:
    """Row -> key of all candidates of a study."""
    candidate = schema.candidate.c
    rows = connection.execute(select(candidate.id, candidate.key).where(candidate.study_id == study_id))
    return {row.id: row.key for row in rows}


def _blob_row(text: str) -> dict[str, Any]:
    data = text.encode("utf-8", "surrogatepass")
    codec, packed = pack(data)
    return {"sha": digest(data), "codec": codec, "size": len(data), "data": packed}


def _param_row(candidate_id: int, name: str, value: Any, sha: str | None) -> dict[str, Any]:
    require_name("a parameter key", name, schema.NAME_LENGTH)
    return {"candidate_id": candidate_id, "name": name, "sha": sha, "num": _as_float(value)}


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an int beyond 1e308 stays exact in its blob
        return None

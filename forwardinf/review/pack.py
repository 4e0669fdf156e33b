"""The evidence pack: a ZIP of everything that a decision rests on, the same bytes for the same case.

manifest.json         canonical JSON: SHA-256 of every other file; models, indexes, draws, seeds; head of the decisions
case.json             what was found, said and decided
decisions.jsonl       the chain of decisions, one a line
matches.csv           one row for each match
report.html, .pdf     for people
pictures/001/         of each picture its original bytes, the record of the answer, and every image's score
thumbnails/           of the training images in the answers
signature.json        where a key is configured: Ed25519, over manifest.json
timestamp.tsr         where a server is configured: RFC 3161, over manifest.json
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import PurePath
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select

from .. import __version__
from ..examples.decoding.signatures import format_of
from ..examples.layouts.paths import SUFFIXES
from ..files.identity import canonical
from ..records.store import CSV, RECORD
from . import seal
from .database import Database
from .dossier import Dossier, Entry
from .exported import as_csv
from .findings import record_bytes
from .report import report_as_html
from .report_pdf import report_as_pdf
from .schema import timestamps

SCHEMA = 1
MANIFEST, CASE, DECISIONS, MATCHES = "manifest.json", "case.json", "decisions.jsonl", "matches.csv"
SIGNATURE, STAMP = "signature.json", "timestamp.tsr"
SEALS = (SIGNATURE, STAMP)  # over the manifest, so not in it
COMMENT = "Forward-INF evidence pack; SHA-256 of manifest.json: "
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the time of every file in the ZIP, so that the same case gives the same bytes


def packed(
    dossier: Dossier, database: Database, key: Ed25519PrivateKey | None = None, stamp_server: str | None = None
) -> bytes:
    """The evidence pack of a case.

    A manifest is stamped once; the stamp is kept in the database, and packs of the same case have the same one.
    """
    files = _files_of(dossier)
    manifest = canonical({**_described(dossier), "files": {name: _sha256(files[name]) for name in sorted(files)}})
    files[MANIFEST] = manifest
    if key is not None:
        files[SIGNATURE] = seal.signature_of(manifest, key)
    if stamp_server is not None:
        files[STAMP] = _stamp(database, manifest, stamp_server)
    return _zipped(files, COMMENT + _sha256(manifest))


def folder_of(number: int) -> str:
    """Where the files of the picture with this number lie."""
    return f"pictures/{number:03}"


def _files_of(dossier: Dossier) -> dict[str, bytes]:
    files = {
        CASE: _readable(dossier.as_json()),
        DECISIONS: b"".join(canonical(decision.as_json()) + b"\n" for decision in dossier.decisions),
        MATCHES: as_csv(dossier).encode(),
        "report.html": report_as_html(dossier).encode(),
        "report.pdf": report_as_pdf(dossier),
    }
    for entry in dossier.entries:
        folder = folder_of(entry.picture.number)
        files[f"{folder}/{_original_name(entry)}"] = entry.original
        if entry.result:
            files[f"{folder}/{RECORD}"] = record_bytes(entry.result)
            files[f"{folder}/{CSV}"] = entry.result.csv.encode()
        for match in entry.finding.matches if entry.finding else ():
            if content := entry.thumbnails.get(match.example_id):
                files[f"thumbnails/{match.sha256[:16]}.{format_of(content).lower()}"] = content
    return files


def _described(dossier: Dossier) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "case": dossier.case.name,
        "created_at": dossier.case.created_at,
        "as_of": dossier.as_of,
        "decisions": len(dossier.decisions),
        "head_of_decisions": dossier.head,
        "pictures": [_described_entry(entry) for entry in dossier.entries],
    }


def _described_entry(entry: Entry) -> dict[str, Any]:
    asked = {
        "number": entry.picture.number,
        "sha256": entry.picture.sha256,
        "original": f"{folder_of(entry.picture.number)}/{_original_name(entry)}",
        "prompt": entry.picture.prompt,
    }
    if entry.result is None or entry.finding is None:
        return {**asked, "answer": None}
    record = entry.result.record
    answer = {
        "result": entry.result.id,
        "record": entry.finding.record_sha256,
        "version": record.version,
        "model": record.model.fingerprint,
        "tunable": record.model.tunable,
        "index": record.index.fingerprint,
        "draws": record.index.draws,
        "draw_seed": record.index.draw_seed,
        "method": {"name": record.method.name, **record.method.settings},
    }
    return {**asked, "answer": answer}


def _original_name(entry: Entry) -> str:
    suffix = PurePath(entry.picture.file_name).suffix.lower()
    return f"original{suffix if suffix in SUFFIXES else '.bin'}"


def _stamp(database: Database, manifest: bytes, server: str) -> bytes:
    digest = _sha256(manifest)
    known = select(timestamps.c.token).where(timestamps.c.manifest == digest)
    with database.reading() as connection:
        token: bytes | None = connection.execute(known).scalar()
    if token is None:
        token = seal.stamped(manifest, server)
        with database.writing() as connection:
            connection.execute(insert(timestamps).values(manifest=digest, token=token))
    return token


def _zipped(files: dict[str, bytes], comment: str) -> bytes:
    """Stored, as compression differs from one zlib to another, and what is large here is compressed already."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, files[name])
        archive.comment = comment.encode()
    return content.getvalue()


def _readable(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()

"""Whether an evidence pack is as it was made, checked with nothing but the pack."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import DamagedAsset, ForwardInfError
from ..files.identity import canonical
from ..records.record import Record
from ..records.store import RECORD
from ..records.upgrade import read_record
from . import seal
from .chain import decision_from, head_of
from .pack import COMMENT, DECISIONS, MANIFEST, SCHEMA, SEALS, SIGNATURE, STAMP, folder_of
from .text import many


@dataclass(frozen=True)
class Pack:
    """The files of a pack, and what is wrong with them."""

    files: dict[str, bytes]
    manifest: dict[str, Any]
    faults: list[str] = field(default_factory=list)  # a sentence for each, naming the file
    remarks: list[str] = field(default_factory=list)  # what was checked, and what could not be

    @property
    def answered(self) -> list[dict[str, Any]]:
        """What the manifest says of each picture that has an answer."""
        return [picture for picture in self.manifest["pictures"] if picture["answer"]]

    def record_of(self, picture: dict[str, Any]) -> Record:
        return read_record(self.files[f"{folder_of(picture['number'])}/{RECORD}"])


def verified(path: Path, public_key: str | None = None, authority: Path | None = None) -> Pack:
    """Check every file of a pack, the chain of decisions, and that its parts say the same; `faults` has what is wrong.

    `public_key` is that of the one who must have signed it, `authority` the certificate that vouches for the time stamp
    server. Raises DamagedAsset where there is no pack to check.
    """
    pack = _opened(path)
    if _are_whole(pack):  # else a fault of a file would be told again by everything that rests on it
        _check_decisions(pack)
        _check_answers(pack)
    _check_seals(pack, public_key, authority)
    return pack


def _opened(path: Path) -> Pack:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedAsset(f"“{path.name}” cannot be read: {error.strerror}.") from error
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise DamagedAsset(f"“{path.name}” is no evidence pack as it was made: its files are compressed.")
            files = {entry.filename: _stored(content, entry) for entry in entries}
            comment = archive.comment.decode(errors="replace")
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DamagedAsset(f"“{path.name}” is no ZIP file, or its directory is damaged.") from error
    if len(files) != len(entries):
        raise DamagedAsset(f"“{path.name}” holds two files of one name.")
    pack = Pack(files, _manifest_of(path.name, files))
    if comment != COMMENT + hashlib.sha256(files[MANIFEST]).hexdigest():
        pack.faults.append(f"{MANIFEST} is not the one that the pack was closed with.")
    return pack


def _stored(content: bytes, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of a file that is stored as it is, whatever the ZIP's own checksum says: the manifest's counts.

    Raises BadZipFile where its name beside them is another than in the directory: programs differ in which they take.
    """
    header = content[entry.header_offset : entry.header_offset + 30]
    named = entry.header_offset + 30
    begin = named + int.from_bytes(header[26:28], "little")
    if content[named:begin] != entry.orig_filename.encode():
        raise zipfile.BadZipFile(f"{entry.filename} has two names")
    begin += int.from_bytes(header[28:30], "little")
    return content[begin : begin + entry.file_size]


def _manifest_of(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    if MANIFEST not in files:
        raise DamagedAsset(f"“{name}” has no {MANIFEST}, so it is no evidence pack.")
    try:
        manifest: dict[str, Any] = json.loads(files[MANIFEST])
        whole = canonical(manifest) == files[MANIFEST] and isinstance(manifest["files"], dict)
        whole = whole and all(
            isinstance(picture["number"], int) and {"answer", "sha256", "original"} <= picture.keys()
            for picture in manifest["pictures"]
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedAsset(f"{MANIFEST} of “{name}” cannot be read.") from error
    if not whole:
        raise DamagedAsset(f"{MANIFEST} of “{name}” is not as it was written.")
    if manifest.get("schema") != SCHEMA:
        raise DamagedAsset(f"“{name}” has schema {manifest.get('schema')}; this version reads {SCHEMA}. Update it.")
    return manifest


def _are_whole(pack: Pack) -> bool:
    """Whether all files that the manifest records are there as they were packed, and no others."""
    before, recorded = len(pack.faults), pack.manifest["files"]
    present = {name for name in pack.files if name not in (MANIFEST, *SEALS)}
    pack.faults.extend(f"{name} is missing." for name in sorted(recorded.keys() - present))
    added = sorted(present - recorded.keys())
    pack.faults.extend(f"{name} was added: the manifest does not record it." for name in added)
    for name in sorted(present & recorded.keys()):
        if hashlib.sha256(pack.files[name]).hexdigest() != recorded[name]:
            pack.faults.append(f"{name} is not as it was packed.")
    pack.remarks.append(f"{many(recorded, 'file')} compared with the manifest")
    return len(pack.faults) == before


def _check_decisions(pack: Pack) -> None:
    manifest = pack.manifest
    try:
        lines = pack.files[DECISIONS].decode().splitlines()
        decisions = [decision_from(json.loads(line)) for line in lines]
        head = head_of(manifest["case"], manifest["created_at"], decisions)
        if (head, len(decisions)) != (manifest["head_of_decisions"], manifest["decisions"]):
            raise DamagedAsset("Its last decision is not the one that the manifest names.")
    except (ForwardInfError, ValueError, KeyError, TypeError) as error:
        pack.faults.append(f"{DECISIONS} is not a whole chain: {error}")
        return
    known = {picture["sha256"] for picture in manifest["pictures"]}
    strangers = [decision.number for decision in decisions if decision.picture not in known]
    pack.faults.extend(f"{DECISIONS}: decision {number} is on no picture of the pack." for number in strangers)
    pack.remarks.append(f"{many(decisions, 'decision')}, each following the one before it; head {head}")


def _check_answers(pack: Pack) -> None:
    for picture in pack.manifest["pictures"]:
        try:
            fault = _fault_of(pack, picture)
        except (ForwardInfError, KeyError, TypeError, AttributeError) as error:
            fault = f"its files do not fit the manifest ({error})"
        if fault:
            pack.faults.append(f"{folder_of(picture['number'])}: {fault}.")
    pack.remarks.append(f"{len(pack.answered)} of {len(pack.manifest['pictures'])} pictures have an answer")


def _fault_of(pack: Pack, picture: dict[str, Any]) -> str:
    """In what the manifest, the original bytes and the record of a picture do not agree; empty where they do."""
    if hashlib.sha256(pack.files[picture["original"]]).hexdigest() != picture["sha256"]:
        return "the original bytes are not those of the picture"
    answer = picture["answer"]
    if answer is None:
        return ""
    content, record = pack.files[f"{folder_of(picture['number'])}/{RECORD}"], pack.record_of(picture)
    pairs = {
        "record": (answer["record"], hashlib.sha256(content).hexdigest()),
        "picture": (picture["sha256"], record.query.sha256),
        "model": (answer["model"], record.model.fingerprint),
        "index": (answer["index"], record.index.fingerprint),
        "number of draws": (answer["draws"], record.index.draws),
        "draw seed": (answer["draw_seed"], record.index.draw_seed),
        "method": (answer["method"], {"name": record.method.name, **record.method.settings}),
        "version": (answer["version"], record.version),
    }
    return "; ".join(f"manifest and record name another {name}" for name, (one, other) in pairs.items() if one != other)


def _check_seals(pack: Pack, public_key: str | None, authority: Path | None) -> None:
    manifest = pack.files[MANIFEST]
    if SIGNATURE in pack.files:
        try:
            signer = seal.signer_of(manifest, pack.files[SIGNATURE])
            pack.remarks.append(f"signed by the key {signer}" + ("" if public_key else ", whose owner was not checked"))
            if public_key not in (None, signer):
                pack.faults.append(f"{SIGNATURE} is by another key than the one that was named.")
        except DamagedAsset as error:
            pack.faults.append(f"{SIGNATURE}: {error}")
    elif public_key:
        pack.faults.append(f"{SIGNATURE} is missing, though a signer was named.")
    else:
        pack.remarks.append("not signed: whoever could make it anew could have changed it whole")
    if STAMP in pack.files:
        try:
            at = seal.stamped_at(manifest, pack.files[STAMP], authority)
            checked = "" if authority else ", by a server whose certificate was not checked"
            pack.remarks.append(f"time stamp of {at}{checked}")
        except DamagedAsset as error:
            pack.faults.append(f"{STAMP}: {error}")
    elif authority:
        pack.faults.append(f"{STAMP} is missing, though an authority was named.")

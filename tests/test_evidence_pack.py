"""Reports and evidence packs: the same bytes for the same case, and what was tampered with is named."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from made_cases import CASE, answer, made_case, opened, png
from made_records import match
from stamp_server import stamp_server

from forwardinf.errors import DamagedAsset, InvalidSettings, MissingAsset
from forwardinf.records.store import FolderStore
from forwardinf.review import report_pdf, seal
from forwardinf.review.database import Database
from forwardinf.review.decisions import decide, withdraw
from forwardinf.review.dossier import Dossier, gather
from forwardinf.review.exported import COLUMNS, as_csv, rows_of
from forwardinf.review.pack import MANIFEST, packed
from forwardinf.review.report import report_as_html
from forwardinf.review.report_pdf import report_as_pdf
from forwardinf.review.verify import verified

KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
REASON = "same outline <b>é</b>"


@pytest.fixture
def database(tmp_path: Path) -> Database:
    """A case of two pictures, one answered and decided on twice."""
    database = opened(tmp_path)
    case, (first, _) = made_case(database, 0, 1)
    matches = [match(), match(rank=2, id="second", caption='=HYPERLINK("x")', sha256="cd" * 32, stands_out=False)]
    answer(database, FolderStore(tmp_path / "results"), first, *matches)
    decide(database, case, first, "infringes", match="openmoji-1", reason=REASON, author="Ada")
    decide(database, case, first, "unsure", reason="too small", author="Bo")
    withdraw(database, case, 2, reason="looked again", author="Bo")
    return database


def dossier_of(database: Database, tmp_path: Path) -> Dossier:
    from forwardinf.review.cases import load_case

    store = FolderStore(tmp_path / "results")
    return gather(database, load_case(database, CASE), store, lambda index, match: png(match.rank))


@pytest.fixture
def dossier(database: Database, tmp_path: Path) -> Dossier:
    return dossier_of(database, tmp_path)


@pytest.fixture
def pack(database: Database, dossier: Dossier, tmp_path: Path) -> Path:
    path = tmp_path / "pack.zip"
    path.write_bytes(packed(dossier, database, KEY))
    return path


def test_a_pack_that_is_made_again_has_the_same_bytes(database: Database, pack: Path, tmp_path: Path):
    assert packed(dossier_of(opened(tmp_path), tmp_path), database, KEY) == pack.read_bytes()


def test_nothing_in_a_pack_tells_when_it_was_made(dossier: Dossier, pack: Path, monkeypatch: pytest.MonkeyPatch):
    with zipfile.ZipFile(pack) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    monkeypatch.setattr(Dossier, "as_of", "2020-01-02T03:04:05Z")
    assert re.findall(rb"\(D:(\d+)", report_as_pdf(dossier)) == [b"20200102030405"]


def test_a_further_decision_gives_another_pack(database: Database, dossier: Dossier, pack: Path, tmp_path: Path):
    decide(database, dossier.case, dossier.entries[1].picture, "no match", reason="r", author="Ada")
    other = dossier_of(database, tmp_path)
    assert other.head != dossier.head
    assert packed(other, database, KEY) != pack.read_bytes()


def test_the_report_says_who_decided_what_and_what_was_not_examined(dossier: Dossier):
    html = report_as_html(dossier)
    for told in (
        *("Estimated influence is neither copying nor infringement", "were not, nor was any work outside"),
        *(
            "Not examined at all: picture 2 (1.png)",
            "Ada",
            "infringes",
            "same outline &lt;b&gt;é&lt;/b&gt;",
            "looked again",
        ),
        *(dossier.head, dossier.entries[0].picture.sha256, "https://example.org/licence", "1 (1–3)"),
    ):
        assert told in html, told
    assert "<b>é" not in html
    assert "http" not in "".join(part for part in html.split('"') if part.startswith(("http", "//")))
    assert html.count("data:image/png;base64,") == 3


@pytest.mark.parametrize("prompt", ["a crown", "王冠"])
def test_the_pdf_says_where_its_font_lacks_a_character(dossier: Dossier, monkeypatch: pytest.MonkeyPatch, prompt: str):
    written: list[str] = []
    write = report_pdf._Page.text_block
    monkeypatch.setattr(
        report_pdf._Page, "text_block", lambda page, *texts: (written.extend(texts), write(page, *texts))
    )
    first, *others = dossier.entries
    asked = replace(first, picture=replace(first.picture, prompt=prompt))
    report_as_pdf(replace(dossier, entries=(asked, *others)))
    assert (report_pdf.LACKING in written) is (prompt == "王冠")


def test_the_pdf_has_the_same_pictures_and_ends_whole(dossier: Dossier):
    pdf = report_as_pdf(dossier)
    assert pdf.startswith(b"%PDF-")
    assert pdf.rstrip().endswith(b"%%EOF")
    assert pdf.count(b"/Subtype /Image") == 3


def test_rows_carry_query_verdict_ranks_credits_and_decisions(dossier: Dossier):
    rows = list(csv.DictReader(io.StringIO(as_csv(dossier))))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["picture"], row["match"], row["decisions"]) for row in rows] == [
        ("1", "openmoji-1", "Ada: infringes (openmoji-1)"),
        ("1", "second", ""),
        ("2", "", ""),
    ]
    assert (rows[0]["best_rank"], rows[0]["worst_rank"], rows[0]["similarity"]) == ("1", "3", "0.9")
    assert rows[0]["licence_url"] == "https://example.org/licence"
    assert rows[0]["answered_at"] == "2026-01-02T03:04:05Z"
    assert rows[1]["caption"].startswith("'=")
    assert [row["match"] for row in rows_of(dossier)] == ["openmoji-1", "second", None]


def test_an_answer_that_is_gone_is_named(database: Database, tmp_path: Path):
    from forwardinf.review.cases import load_case

    with pytest.raises(MissingAsset, match=r"picture 1 \(0.png\) is not in the results folder"):
        gather(database, load_case(database, CASE), FolderStore(tmp_path / "else"), lambda index, match: None)


# Verifying


def faults_of(pack: Path, change: Callable[[dict[str, bytes]], object], **checks: object) -> list[str]:
    """What is found in a pack whose files were changed, put together again as a forger would."""
    with zipfile.ZipFile(pack) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
        comment = archive.comment
    change(files)
    with zipfile.ZipFile(pack, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.comment = comment
    return verified(pack, **checks).faults


def test_a_pack_as_it_was_made_is_whole(pack: Path):
    checked = verified(pack, KEY.public_key().public_bytes_raw().hex())
    assert checked.faults == []
    assert any("3 decisions" in remark for remark in checked.remarks)
    assert [picture["number"] for picture in checked.answered] == [1]


def names_of(pack: Path) -> list[str]:
    with zipfile.ZipFile(pack) as archive:
        return archive.namelist()


def test_every_file_that_is_changed_removed_or_added_is_named(pack: Path):
    whole, names = pack.read_bytes(), names_of(pack)
    assert {"report.html", "report.pdf", "case.json", "decisions.jsonl", "matches.csv", "signature.json"} < set(names)
    assert {"pictures/001/original.png", "pictures/001/record.json", "pictures/002/original.png"} < set(names)
    for name in names:
        if name == MANIFEST:
            continue
        pack.write_bytes(whole)
        faults = faults_of(pack, lambda files, name=name: files.update({name: files[name][:-1] + b"~"}))
        assert [fault.partition(":")[0].partition(" ")[0] for fault in faults] == [name], name
        pack.write_bytes(whole)
        if name != "signature.json":
            assert faults_of(pack, lambda files, name=name: files.pop(name)) == [f"{name} is missing."]
    pack.write_bytes(whole)
    (fault,) = faults_of(pack, lambda files: files.update({"pictures/003/original.png": b""}))
    assert fault.startswith("pictures/003/original.png was added")


def test_a_file_with_another_name_beside_its_bytes_than_in_the_directory_is_refused(pack: Path):
    whole = pack.read_bytes()
    at = whole.index(b"signature.json")
    pack.write_bytes(whole[:at] + b"Signature.json" + whole[at + 14 :])
    with pytest.raises(DamagedAsset, match="directory is damaged"):
        verified(pack)


def test_every_byte_of_the_manifest_counts(pack: Path):
    whole = pack.read_bytes()
    begin = whole.index(b"manifest.json") + len("manifest.json")
    for at in range(begin, begin + 1700, 5):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with suppress(DamagedAsset):
            assert verified(pack).faults, at


def test_every_byte_of_the_file_of_the_signature_counts(pack: Path):
    with zipfile.ZipFile(pack) as archive:
        whole = archive.read("signature.json")
    for at in range(len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert faults_of(pack, lambda files, changed=changed: files.update({"signature.json": changed})), at


def test_a_flipped_bit_anywhere_in_the_archive_does_not_go_unseen(pack: Path):
    whole = pack.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 60)):
        pack.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            faults = verified(pack).faults
        except DamagedAsset:
            continue
        unread = not faults
        if unread:  # a byte that says nothing of the content: a local header's time, checksum or version
            with zipfile.ZipFile(io.BytesIO(whole)) as archive:
                headers = [entry.header_offset for entry in archive.infolist()]
                directory = archive.start_dir
            assert at >= directory or any(0 <= at - begin < 30 for begin in headers), at


def remade(files: dict[str, bytes], /, **changes: object) -> None:
    """Change fields of the manifest, and write it as it should be written."""
    manifest = json.loads(files[MANIFEST])
    manifest.update(changes)
    files[MANIFEST] = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_a_manifest_that_is_changed_breaks_the_seal_and_the_signature(pack: Path):
    faults = faults_of(pack, lambda files: remade(files, as_of="2020-01-01T00:00:00Z"))
    assert faults == [
        "manifest.json is not the one that the pack was closed with.",
        "signature.json: The signature is not one of this manifest.",
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [("model", "other"), ("index", "other"), ("draws", 9), ("draw_seed", 9), ("version", "9"), ("method", {})],
)
def test_a_manifest_that_says_other_than_the_record_is_named(pack: Path, name: str, value: object):
    def change(files: dict[str, bytes]) -> None:
        pictures = json.loads(files[MANIFEST])["pictures"]
        pictures[0]["answer"][name] = value
        remade(files, pictures=pictures)

    label = {"draws": "number of draws", "draw_seed": "draw seed"}.get(name, name)
    assert f"pictures/001: manifest and record name another {label}." in faults_of(pack, change)


def with_decisions(files: dict[str, bytes], decisions: bytes) -> None:
    """Put other decisions in, and their checksum in the manifest."""
    files["decisions.jsonl"] = decisions
    sums = json.loads(files[MANIFEST])["files"]
    remade(files, files={**sums, "decisions.jsonl": hashlib.sha256(decisions).hexdigest()})


def test_decisions_that_are_left_off_with_their_checksum_are_missed(pack: Path):
    def change(files: dict[str, bytes]) -> None:
        with_decisions(files, b"".join(files["decisions.jsonl"].splitlines(keepends=True)[:-1]))

    assert any("Its last decision is not the one that the manifest names" in fault for fault in faults_of(pack, change))


def test_a_decision_that_is_forged_with_its_checksum_is_named(pack: Path):
    def change(files: dict[str, bytes]) -> None:
        with_decisions(files, files["decisions.jsonl"].replace(b'"infringes"', b'"licensed"'))

    assert any("Decision 1 of" in fault and "is not as it was made" in fault for fault in faults_of(pack, change))


def test_a_signer_or_an_authority_that_was_named_is_demanded(database: Database, dossier: Dossier, tmp_path: Path):
    path = tmp_path / "pack.zip"
    path.write_bytes(packed(dossier, database))
    assert verified(path).faults == []
    assert verified(path, "00" * 32).faults == ["signature.json is missing, though a signer was named."]
    path.write_bytes(packed(dossier, database, KEY))
    assert verified(path, "00" * 32).faults == ["signature.json is by another key than the one that was named."]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_pack_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "pack.zip").write_bytes(content)
    with pytest.raises(DamagedAsset, match=r"“pack.zip”"):
        verified(tmp_path / "pack.zip")


# Time stamps


def test_a_stamp_is_of_this_manifest_and_is_kept(database: Database, dossier: Dossier, tmp_path: Path):
    path = tmp_path / "pack.zip"
    with stamp_server() as (url, authority):
        path.write_bytes(packed(dossier, database, stamp_server=url))
    (tmp_path / "authority.pem").write_bytes(authority.public_bytes(Encoding.PEM))
    assert verified(path, authority=tmp_path / "authority.pem").faults == []
    assert any("time stamp of 20" in remark for remark in verified(path).remarks)
    assert packed(dossier, database, stamp_server="http://localhost:9/gone") == path.read_bytes()
    faults = faults_of(path, lambda files: remade(files, as_of="2020-01-01T00:00:00Z"))
    assert "timestamp.tsr: The time stamp is of another manifest." in faults


def test_a_stamp_of_a_server_that_the_authority_does_not_know_is_refused(database, dossier: Dossier, tmp_path: Path):
    path = tmp_path / "pack.zip"
    with stamp_server() as (url, _), stamp_server() as (_, other):
        path.write_bytes(packed(dossier, database, stamp_server=url))
    (tmp_path / "other.pem").write_bytes(other.public_bytes(Encoding.PEM))
    (fault,) = verified(path, authority=tmp_path / "other.pem").faults
    assert fault.startswith("timestamp.tsr: The time stamp cannot be verified")


def test_a_stamp_server_that_does_not_answer_is_told(database: Database, dossier: Dossier):
    with pytest.raises(InvalidSettings, match="time stamp server gave no usable answer"):
        packed(dossier, database, stamp_server="http://localhost:9/")


def test_a_key_that_cannot_sign_is_told(tmp_path: Path):
    (tmp_path / "key.pem").write_text("no key")
    with pytest.raises(InvalidSettings, match=r"“key.pem” cannot be read"):
        seal.load_key(tmp_path / "key.pem")
    with pytest.raises(InvalidSettings, match=r"“key.pem” cannot be read"):
        seal.load_public_key(tmp_path / "key.pem")

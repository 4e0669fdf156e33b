"""What files say of themselves, and how it is kept beside a match: where it was read, and when."""

from __future__ import annotations

import io
from pathlib import Path

import c2pa
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from made_cases import made_case, opened, png
from made_certificates import issued
from made_records import match, record
from PIL import Image, PngImagePlugin

from conftest import write_patches
from forwardinf.errors import UnreadablePicture
from forwardinf.examples.decoding import sandbox
from forwardinf.examples.metadata import training_images
from forwardinf.examples.provenance import read_statements
from forwardinf.review.signals import SEARCHED, note_answer, signals_of
from forwardinf.review.text import picture_as_text

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/" xmlns:tdm="http://www.w3.org/ns/tdmrep/"
 xmlns:dc="http://purl.org/dc/elements/1.1/" tdm:reservation="1" tdm:policy="https://example.org/policy">
<plus:DataMining rdf:resource="http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-GENAIMLTRAINING"/>
<dc:creator><rdf:Seq><rdf:li>Ada</rdf:li><rdf:li>Bo</rdf:li></rdf:Seq></dc:creator>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def saved(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(buffer, format=format, **options)
    return buffer.getvalue()


def stated(data: bytes) -> set[tuple[str, str, str]]:
    return {(one.name, one.value, one.read_from) for one in read_statements(data)}


@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_opt_outs_are_found_in_xmp(format: str):
    assert stated(saved(format, xmp=XMP.encode())) == {
        ("TDM reservation", "1", "XMP reservation"),
        ("TDM policy", "https://example.org/policy", "XMP policy"),
        ("data mining", "http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED-GENAIMLTRAINING", "XMP DataMining"),
        ("creator", "Ada; Bo", "XMP creator"),
    }


def test_a_prompt_is_found_in_png_text_and_rights_in_exif():
    text, exif = PngImagePlugin.PngInfo(), Image.Exif()
    text.add_text("parameters", "a red apple\nSteps: 20")
    text.add_itxt("XML:com.adobe.xmp", XMP, zip=True)
    exif[33432] = "Ada, all rights reserved"
    found = stated(saved("PNG", pnginfo=text, exif=exif))
    assert {
        ("prompt", "a red apple\nSteps: 20", "PNG text “parameters”"),
        ("TDM reservation", "1", "XMP reservation"),
    } <= found
    assert ("rights", "Ada, all rights reserved", "EXIF") in found


def test_content_credentials_are_found_and_validated():
    authority, certificate, key = issued(ExtendedKeyUsageOID.EMAIL_PROTECTION)
    chain = certificate.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(c2pa.C2paSigningAlg.ES256, chain, private, None))
    source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    actions = {"actions": [{"action": "c2pa.created", "digitalSourceType": source}]}
    mining = {"entries": {"c2pa.ai_generative_training": {"use": "notAllowed"}}}
    assertions = [{"label": "c2pa.actions", "data": actions}, {"label": "c2pa.training-mining", "data": mining}]
    signed = io.BytesIO()
    builder = c2pa.Builder({"claim_generator_info": [{"name": "Tests", "version": "1"}], "assertions": assertions})
    builder.sign(signer, "image/png", io.BytesIO(saved("PNG")), signed)
    found = {(name, value) for name, value, _ in stated(signed.getvalue())}
    assert {
        ("content credentials", "Valid (signingCredential.untrusted)"),
        ("digital source type", source),
        ("data mining", "c2pa.ai_generative_training: notAllowed"),
    } <= found
    tampered = bytearray(signed.getvalue())
    tampered[-20] ^= 1  # in the pixels
    states = [value for name, value, _ in stated(bytes(tampered)) if name == "content credentials"]
    assert [state.startswith("Invalid") for state in states] == [True]


@pytest.mark.parametrize(
    "xmp",
    [
        b"<x:xmpmeta>",
        b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>',
        b"\xff" * 100,
    ],
)
def test_hostile_metadata_states_nothing(xmp: bytes):
    assert stated(saved("JPEG", xmp=xmp)) == set()


def test_what_is_no_picture_and_a_search_that_dies_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UnreadablePicture, match="is text"):
        read_statements(b"hello, a text")
    monkeypatch.setattr(sandbox, "_command", lambda *_: ["false"])
    with pytest.raises(UnreadablePicture, match="its decoder failed"):
        read_statements(png())


def test_signals_stand_beside_matches_with_where_and_when(tmp_path: Path):
    (tmp_path / "images").mkdir()
    folder = write_patches(tmp_path / "images", 1)
    (folder / "00.png").write_bytes(saved("JPEG", xmp=XMP.encode()))
    images = training_images(folder)
    database = opened(tmp_path)
    case, (picture,) = made_case(database)
    found = match(id="00.png", sha256=images.images[0].sha256, creator="unknown")
    made = record(found, query={"sha256": picture.sha256})
    for _ in range(2):
        note_answer(database, made, png(), images)
    told = {(one.name, one.value): one for one in signals_of(database, found.sha256)}
    assert told["licence", "CC-BY-SA-4.0"].read_from.startswith("catalog of the index “i”")
    assert told["TDM reservation", "1"].read_from == "XMP reservation"
    assert not [name for name, value in told if value == "unknown"]
    assert all(one.read_at.endswith("Z") for one in told.values())
    assert len(told) == len(signals_of(database, found.sha256))
    assert [one.name for one in signals_of(database, picture.sha256)] == [SEARCHED]
    assert "embedded metadata: 0 statements found (the file, read 20" in picture_as_text(database, case, picture)

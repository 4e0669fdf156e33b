"""Statements in a picture's file: XMP (IPTC, PLUS, TDMRep), EXIF, IPTC-IIM, PNG text, and Content Credentials (C2PA).

Run in a child process only: these bytes are a stranger's.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from defusedxml.ElementTree import fromstring
from PIL import Image, ImageFile, IptcImagePlugin

Found = tuple[str, str, str]  # name, value, where it was read

MOST, LONGEST = 40, 2000  # statements, and characters of each
_XMP = {
    "{http://ns.useplus.org/ldf/xmp/1.0/}DataMining": "data mining",
    "{http://ns.useplus.org/ldf/xmp/1.0/}OtherConstraints": "data mining constraints",
    "{http://www.w3.org/ns/tdmrep/}reservation": "TDM reservation",
    "{http://www.w3.org/ns/tdmrep/}policy": "TDM policy",
    "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType": "digital source type",
    "{http://purl.org/dc/elements/1.1/}creator": "creator",
    "{http://purl.org/dc/elements/1.1/}rights": "rights",
    "{http://ns.adobe.com/xap/1.0/rights/}WebStatement": "web statement of rights",
    "{http://ns.adobe.com/xap/1.0/rights/}UsageTerms": "usage terms",
    "{http://creativecommons.org/ns#}license": "licence",
}
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
_EXIF = {315: "creator", 33432: "rights", 305: "software", 270: "description"}
_IIM = {(2, 80): "creator", (2, 116): "rights"}
_TEXT = {
    **{"parameters": "prompt", "prompt": "prompt", "Author": "creator", "Copyright": "rights"},
    **{"Software": "software", "Description": "description", "Comment": "comment", "Source": "source"},
}
_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "TIFF": "image/tiff"}
_TYPES |= {"AVIF": "image/avif"}
_MINING = ("c2pa.training-mining", "cawg.training-mining")


def statements_in(data: bytes, format: str) -> list[Found]:
    """What the file states, each once, and where; a part that is damaged states nothing."""
    found: list[Found] = []
    image: ImageFile.ImageFile | None = None
    with suppress(Exception):
        image = Image.open(io.BytesIO(data), formats=[format])
    readers: list[Callable[[], Iterator[Found]]] = [
        lambda: _xmp(data, image),
        lambda: _content_credentials(data, format),
    ]
    if image is not None:
        opened = image
        readers += [lambda: _exif(opened), lambda: _iim(opened), lambda: _text(opened)]
    for reader in readers:
        with suppress(Exception):  # whatever a stranger wrote there
            found += reader()
    kept = [(name, value.strip()[:LONGEST], where) for name, value, where in found if value.strip()]
    return list(dict.fromkeys(kept))[:MOST]


def _xmp(data: bytes, image: Image.Image | None) -> Iterator[Found]:
    packets = [data[start : data.find(b"</x:xmpmeta>", start) + 12] for start in _all(data, b"<x:xmpmeta")]
    if not packets and image is not None:  # compressed, or in another wrapping
        kept = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
        packets = [kept.encode() if isinstance(kept, str) else kept]
    for packet in packets[:4]:
        for element in fromstring(packet.strip(b"\0 \n")).iter():
            for name, value in element.attrib.items():
                if name in _XMP:
                    yield _XMP[name], str(value), f"XMP {name.rpartition('}')[2]}"
            if element.tag in _XMP:
                texts = [
                    element.text or "",
                    element.get(f"{_RDF}resource") or "",
                    *(e.text or "" for e in element.iter()),
                ]
                value = "; ".join(dict.fromkeys(text.strip() for text in texts if text.strip()))
                yield _XMP[element.tag], value, f"XMP {element.tag.rpartition('}')[2]}"


def _all(data: bytes, begins: bytes) -> Iterator[int]:
    at = data.find(begins)
    while at >= 0:
        yield at
        at = data.find(begins, at + 1)


def _exif(image: Image.Image) -> Iterator[Found]:
    exif = image.getexif()
    for tag, name in _EXIF.items():
        if tag in exif:
            yield name, str(exif[tag]), "EXIF"
    comment = exif.get_ifd(0x8769).get(0x9286)
    if isinstance(comment, bytes):
        code, text = comment[:8], comment[8:]
        yield (
            "prompt",
            text.decode("utf-16-be" if code.startswith(b"UNICODE") else "utf-8", "replace"),
            "EXIF UserComment",
        )


def _iim(image: ImageFile.ImageFile) -> Iterator[Found]:
    for key, value in (IptcImagePlugin.getiptcinfo(image) or {}).items():
        if key in _IIM:
            for one in value if isinstance(value, list) else [value]:
                yield _IIM[key], one.decode("utf-8", "replace"), "IPTC-IIM"


def _text(image: Image.Image) -> Iterator[Found]:
    for key, name in _TEXT.items():
        if isinstance(image.info.get(key), str):
            yield name, image.info[key], f"PNG text “{key}”"


def _content_credentials(data: bytes, format: str) -> Iterator[Found]:
    """What the active manifest says, without any connection to the network."""
    import c2pa

    settings = c2pa.Settings.from_dict({"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}})
    reader = c2pa.Reader(_TYPES[format], io.BytesIO(data), context=c2pa.Context(settings))
    kept = json.loads(reader.json())
    manifest: dict[str, Any] = kept["manifests"][kept["active_manifest"]]
    where, signed = "C2PA", manifest.get("signature_info", {})
    trust = [status["code"] for status in kept.get("validation_status", [])]
    untrusted = f" ({', '.join(trust[:5])})" if trust else ""
    yield "content credentials", f"{reader.get_validation_state()}{untrusted}", where
    yield "content credentials signed by", str(signed.get("issuer") or signed.get("common_name") or "not known"), where
    for tool in manifest.get("claim_generator_info", []):
        yield "content credentials made with", f"{tool.get('name', '')} {tool.get('version', '')}", where
    for assertion in manifest.get("assertions", []):
        label, content = str(assertion.get("label", "")), assertion.get("data", {})
        if label.startswith("c2pa.actions"):
            for action in content.get("actions", []):
                yield "digital source type", str(action.get("digitalSourceType") or ""), f"{where} {label}"
        if label.startswith(_MINING):
            for use, entry in content.get("entries", {}).items():
                yield "data mining", f"{use}: {entry.get('use')}", f"{where} {label}"

"""How a picture was generated, as AUTOMATIC1111, Forge, ComfyUI, InvokeAI and Fooocus write it into their files.

Run in a child process only: these bytes are a stranger's. `sd-parsers` knows the formats; what it does not read is
added: hashes of LoRAs, ComfyUI's graph without its editor's copy, and both in the EXIF of JPEG and WebP. Its time grows
with the square of a text's length and of a graph's size, so it is given no more of either than people's files have.
"""

from __future__ import annotations

import io
import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from PIL import Image
from sd_parsers.data import PromptInfo
from sd_parsers.parsers import AUTOMATIC1111Parser, ComfyUIParser, FooocusParser, InvokeAIParser

_EXIF_FOLDER, _COMMENT = 0x8769, 0x9286
_PARSERS = (FooocusParser, AUTOMATIC1111Parser, InvokeAIParser, ComfyUIParser)
_LOADERS = ("ckpt_name", "unet_name")
_GRAPHS = ("prompt", "workflow")
_MARKS = ("parameters", "invokeai_metadata", "sd-metadata", "Dream", "prompt")
LONGEST_TEXT = 50_000  # characters of what is no graph
MOST_SAMPLERS, MOST_NODES = 10, 300  # of a graph: its first samplers, and the nodes nearest to them
_SAMPLER = {"sampler_name", "steps", "cfg"}  # inputs by which sd-parsers knows one
_FORGE = re.compile(r"\bVersion: f\d")
_LORA_HASHES = re.compile(r'Lora hashes: "?([^"\n]{1,4000})')
_SETTINGS = re.compile(r"\n(?:Negative prompt:|Steps:)")


def generation_in(data: bytes, format: str) -> dict[str, Any] | None:
    """What the file says, as `generation.Generation` has it; None where no generator has written anything into it."""
    with Image.open(io.BytesIO(data), formats=[format]) as image:
        fields = _fields(image)
    if not any(mark in fields for mark in _MARKS):
        return None
    found = _parsed(fields)
    if found is None:
        text = str(fields.get("parameters", ""))
        written = "" if text.lstrip().startswith("{") else _SETTINGS.split(text)[0].strip()
        return _made({"written": written}) if written else None
    sampler = found.samplers[0] if found.samplers else None
    model, settings = (sampler.model, sampler.parameters) if sampler else (None, {})
    return _made(
        {
            "program": "Forge" if _FORGE.search(str(fields.get("parameters", ""))) else found.generator.value,
            "written": found.full_prompt,
            "negative": found.full_negative_prompt,
            "seed": settings.get("seed", settings.get("noise_seed", "")),
            "sampler": sampler.name if sampler else "",
            "model": _checkpoint(fields) or _named(fields, "name") or (model and model.name),
            "model_hash": _named(fields, "hash") or (model and model.hash),
            "loras": list(_loras(fields, found)),
        }
    )


def _made(stated: dict[str, Any]) -> dict[str, Any]:
    return {key: value if key == "loras" else _text(value) for key, value in stated.items()}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else ""


def _fields(image: Image.Image) -> dict[str, Any]:
    """Texts of the file by the names that PNG gives them."""
    fields = {key: value for key, value in image.info.items() if isinstance(key, str) and isinstance(value, str)}
    exif = image.getexif()
    for value in exif.values():  # ComfyUI writes “prompt:{…}” into whichever tags are free
        if isinstance(value, str):
            name, _, rest = value.partition(":")
            if name.lower() in ("prompt", "workflow") and rest.lstrip().startswith("{"):
                fields.setdefault(name.lower(), rest)
    comment = exif.get_ifd(_EXIF_FOLDER).get(_COMMENT)
    if isinstance(comment, bytes | str):
        fields.setdefault("parameters", _comment(comment))
    return {name: text if name in _GRAPHS else text[:LONGEST_TEXT] for name, text in fields.items()}


def _comment(comment: bytes | str) -> str:
    """The text of a UserComment, whose first eight bytes name its code."""
    if isinstance(comment, str):
        return comment
    code, text = comment[:8], comment[8:]
    if not code.startswith(b"UNICODE"):
        return (text if code.startswith((b"ASCII", b"\0")) else comment).decode("utf-8", "replace").strip("\0")
    order = "utf-16-le" if text[1:2] == b"\0" and text[:1] != b"\0" else "utf-16-be"
    return text.decode(order, "replace").strip("\0\ufeff")


def _parsed(fields: dict[str, Any]) -> PromptInfo | None:
    graph = _near_samplers(_json(fields.get("prompt")))
    known = {**fields, "prompt": graph, "workflow": {"links": list(_links(graph))}}
    for parser in _PARSERS:
        with suppress(Exception):  # whatever a stranger wrote there
            found = parser().parse(known)
            if found.samplers:
                return found
    return None


def _json(text: object) -> dict[str, Any]:
    with suppress(ValueError, TypeError, RecursionError):
        found = json.loads(text)  # type: ignore[arg-type]
        return found if isinstance(found, dict) else {}
    return {}


def _near_samplers(graph: dict[str, Any]) -> dict[str, Any]:
    """The first samplers of a graph, and as many of the nodes that they depend on, nearest first, as are read."""
    named = {str(node_id): node for node_id, node in graph.items()}
    sources = dict[str, list[str]]()
    for _, source, _, node_id, *_ in _links(graph):
        sources.setdefault(node_id, []).append(source)
    samplers = [node_id for node_id, inputs in _inputs(named) if inputs.keys() >= _SAMPLER][:MOST_SAMPLERS]
    kept, waiting = dict.fromkeys(samplers), deque(samplers)
    while waiting and len(kept) < MOST_NODES:
        for source in sources.get(waiting.popleft(), ()):
            if source in named and source not in kept and len(kept) < MOST_NODES:
                kept[source] = None
                waiting.append(source)
    return {node_id: named[node_id] for node_id in kept}


def _links(graph: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """The connections of a graph of ComfyUI's, as its editor's copy lists them: an input refers to [node, output]."""
    for node_id, inputs in _inputs(graph):
        for name, value in inputs.items():
            if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
                yield 0, value[0], value[1], node_id, 0, str(name).upper()


def _inputs(graph: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for node_id, node in graph.items():
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
            yield node_id, node["inputs"]


def _checkpoint(fields: dict[str, Any]) -> str:
    """The file that a graph of ComfyUI's loads its model from."""
    names = (_text(inputs.get(key)) for _, inputs in _inputs(_json(fields.get("prompt"))) for key in _LOADERS)
    return next(filter(None, names), "")


def _named(fields: dict[str, Any], what: str) -> str:
    """The name or the hash of the model in what InvokeAI writes since its third version."""
    model = _json(fields.get("invokeai_metadata")).get("model")
    return _text(model.get(what)) if isinstance(model, dict) else ""


def _loras(fields: dict[str, Any], found: PromptInfo) -> Iterator[tuple[str, float | None, str]]:
    """Names, weights and hashes of adapters, as far as they stand beside the prompt."""
    for pair in ",".join(_LORA_HASHES.findall(str(fields.get("parameters", "")))).split(","):
        name, colon, digest = pair.rpartition(":")
        if colon:
            yield name.strip(), None, digest.strip()
    hashes = found.metadata.get("Hashes")
    for key, stated in hashes.items() if isinstance(hashes, dict) else ():
        if str(key).startswith("lora:"):
            yield str(key)[5:], None, _text(stated)
    for _, inputs in _inputs(_json(fields.get("prompt"))):
        if isinstance(inputs.get("lora_name"), str):
            yield inputs["lora_name"], _weight(inputs.get("strength_model")), ""
    for entry in _list(_json(fields.get("invokeai_metadata")).get("loras")):
        adapter = entry.get("model", entry.get("lora")) if isinstance(entry, dict) else None
        if isinstance(adapter, dict):
            called = adapter.get("name", adapter.get("model_name"))
            yield _text(called), _weight(entry.get("weight")), _text(adapter.get("hash"))
    for entry in _list(_json(fields.get("parameters")).get("loras")):
        if isinstance(entry, list) and len(entry) >= 2:
            yield _text(entry[0]), _weight(entry[1]), _text(entry[2]) if len(entry) > 2 else ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _weight(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None

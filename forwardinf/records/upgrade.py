"""Records as they were kept, those of earlier versions too, back to `Record`."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from ..errors import DamagedAsset
from ..scoring.groups import outranked
from ..types import size_draws_of
from .record import SCHEMA, Record
from .text import with_verdict


def read_record(text: bytes | str) -> Record:
    """The record in a JSON text; raises DamagedAsset where it is none, or one of a later version."""
    schema = schema_of(text)
    if schema not in (1, SCHEMA):
        raise DamagedAsset(
            f"This record has schema {schema}; this version of Forward-INF reads up to {SCHEMA}. Update it."
        )
    try:
        if schema == SCHEMA:
            return Record.model_validate_json(text)
        return with_verdict(Record.model_validate(_from_schema_1(json.loads(text))))
    except (ValidationError, KeyError, TypeError, AttributeError) as error:
        raise DamagedAsset("This record cannot be read.") from error


def schema_of(text: bytes | str) -> int:
    """Which schema a record has; raises DamagedAsset where a JSON text is no record."""
    try:
        kept = json.loads(text)
    except ValueError as error:
        raise DamagedAsset("This record is not JSON.") from error
    schema = kept.get("schema", 1) if isinstance(kept, dict) else None
    if type(schema) is not int:
        raise DamagedAsset("This record cannot be read.")
    return schema


def _from_schema_1(kept: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that has no schema number, under today's names."""
    query, method, index, confidence = (kept[part] for part in ("query", "method", "index", "confidence"))
    settings = {key: value for key, value in method.items() if key != "name"}
    trained = index.get("trained", index["examples"])
    return {
        "schema": SCHEMA,
        "version": kept["version"],
        "answered_at": None,
        "caution": kept["caution"],
        "query": {
            "sha256": query["sha256"],
            "prompt": query["prompt"],
            "fallback_caption": query.get("borrowed"),
            "notes": query["notes"],
            "file_name": kept.get("file_name", ""),
        },
        "method": {"name": method["name"], "settings": settings},
        "mirrored": kept["mirrored"],
        "model": kept["model"],
        "index": {"name": "", **index, "trained": trained},
        "confidence": {
            "stand_out": confidence["stand_out"],
            "false_discovery_rate": confidence["false_discovery_rate"],
            "null_pictures": confidence["reference_queries"],
        },
        "results": [_match(row, settings) for row in kept["results"]],
        "groups": {key: [_group(group, trained) for group in groups] for key, groups in kept["groups"].items()},
        "seconds": kept.get("seconds"),
    }


def _match(row: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    renamed = {key: value for key, value in row.items() if key != "lent_caption"}
    return {
        **renamed,
        "subject": row["caption"],
        "repeats": None,
        "size_draws": size_draws_of(settings, len(row["per_draw"])),
        "is_fallback_caption": row.get("lent_caption", False),
    }


def _group(group: dict[str, Any], trained: int) -> dict[str, Any]:
    return {**group, "outranks": outranked(group["images"], group["mean_rank"], trained)}

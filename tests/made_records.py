"""Records as an answer would have them, made by hand."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from forwardinf.records.record import GroupRecord, Match, Record

MATCH = Match(
    rank=1, id="openmoji-1", score=3.25, standard_error=0.5, p_value=1 / 30, stands_out=True, rank_range=(1, 3),
    similarity=0.9, similarity_rank=4, per_draw=(1.0, -2.0), size_draws=0, caption="apple, OpenMoji style",
    subject="apple", collection="openmoji", creator="Ada <b>", licence="CC-BY-SA-4.0",
    licence_url="https://example.org/licence", source_url="https://example.org", split="train", repeats=1,
    sha256="ab" * 32, is_fallback_caption=False,
)  # fmt: skip


def match(**changes: Any) -> Match:
    return MATCH.model_copy(update=changes)


def record(*results: Match, **changes: Any) -> Record:
    """A record of these results, by default of one that stands out; `changes` name its fields, or fields of parts."""
    parts: dict[str, Any] = {
        "version": "0", "answered_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "seconds": 2.0,
        "query": {"sha256": "00" * 32, "prompt": "", "file_name": "a.png"},
        "method": {"name": "forward_inf", "settings": {"steps": 1}},
        "mirrored": {"loss_before": 0.1, "loss_after": 0.11},
        "model": {"name": "m", "fingerprint": "f", "tunable": "all"},
        "index": {"name": "i", "fingerprint": "if", "examples": 1300, "trained": 1234, "draws": 2, "draw_seed": 0},
        "confidence": {"stand_out": sum(bool(m.stands_out) for m in results or (MATCH,)),
                       "false_discovery_rate": 0.1, "null_pictures": 29},
        "results": results or (MATCH,),
        "groups": {key: [GroupRecord(name=getattr(MATCH, key), images=1, mean_rank=1.0, outranks=1.0, p_value=0.0004)]
                   for key in ("collection", "creator", "licence")},
    }  # fmt: skip
    for name, value in changes.items():
        parts[name] = {**parts[name], **value} if isinstance(value, dict) and parts.get(name) else value
    return Record.model_validate(parts)

"""The tables of a database of cases, as the newest migration leaves them.

cases       a name and when it began
originals   the bytes of each picture as they arrived, once
pictures    what a case holds: a picture, numbered within the case, with its prompt
answers     what the machine said of a picture: which kept record, in short; the last one counts
matches     the training images that an answer lists
signals     what licences, catalogs and files say about a training image or a picture, where and when that was read
decisions   what people decided, one hash chain per case; triggers forbid to change or remove a row

Times are ISO 8601 in UTC, as text, as they are hashed.
"""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

cases = Table(
    "cases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("created_at", String(40), nullable=False),
)

originals = Table(
    "originals",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

pictures = Table(
    "pictures",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("sha256", String(64), ForeignKey("originals.sha256"), nullable=False),
    Column("phash", String(16), nullable=False),
    Column("file_name", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("added_at", String(40), nullable=False),
    UniqueConstraint("case_id", "number"),
    UniqueConstraint("case_id", "sha256"),
)

answers = Table(
    "answers",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("picture_id", Integer, ForeignKey("pictures.id"), nullable=False, index=True),
    Column("result_id", String(16), nullable=False),
    Column("record_sha256", String(64), nullable=False),
    Column("model", String(64), nullable=False),
    Column("index_fingerprint", String(64), nullable=False),
    Column("answered_at", String(40), nullable=False),
    Column("verdict", Text, nullable=False),
    Column("number_standing_out", Integer),
    UniqueConstraint("picture_id", "result_id", "record_sha256"),
)

matches = Table(
    "matches",
    metadata,
    Column("answer_id", Integer, ForeignKey("answers.id"), primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("example_id", Text, nullable=False),
    Column("caption", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("collection", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("licence", Text, nullable=False),
    Column("licence_url", Text, nullable=False),
    Column("source_url", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("phash", String(16), nullable=False),
    Column("score", Float, nullable=False),
    Column("best_rank", Integer, nullable=False),
    Column("worst_rank", Integer, nullable=False),
    Column("similarity", Float, nullable=False),
    Column("p_value", Float),
    Column("stands_out", Boolean),
)

signals = Table(
    "signals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("name", String(40), nullable=False),
    Column("value", Text, nullable=False),
    Column("read_from", Text, nullable=False),
    Column("read_at", String(40), nullable=False),
    UniqueConstraint("sha256", "name", "value", "read_from"),
)

decisions = Table(
    "decisions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("case_id", Integer, ForeignKey("cases.id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("picture", String(64), nullable=False),
    Column("example_id", Text, nullable=False),
    Column("verdict", String(20), nullable=False),
    Column("withdraws", Integer),
    Column("reason", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("decided_at", String(40), nullable=False),
    Column("result_id", String(16), nullable=False),
    Column("record_sha256", String(64), nullable=False),
    Column("former", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    UniqueConstraint("case_id", "number"),
)

timestamps = Table(
    "timestamps",
    metadata,
    Column("manifest", String(64), primary_key=True),
    Column("token", LargeBinary, nullable=False),
)

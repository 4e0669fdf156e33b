"""Cases, their pictures and answers, signals, and decisions that no statement changes or removes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KEPT = "decisions are never changed or removed; record a further one"
SQLITE = """
CREATE TRIGGER decisions_no_{event} BEFORE {event} ON decisions
BEGIN SELECT RAISE(ABORT, '{message}'); END
"""
POSTGRESQL = (
    f"""
CREATE FUNCTION decisions_are_kept() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '{KEPT}'; END $$
""",
    """
CREATE TRIGGER decisions_no_change BEFORE UPDATE OR DELETE ON decisions
FOR EACH ROW EXECUTE FUNCTION decisions_are_kept()
""",
    """
CREATE TRIGGER decisions_no_truncate BEFORE TRUNCATE ON decisions
FOR EACH STATEMENT EXECUTE FUNCTION decisions_are_kept()
""",
)


def upgrade() -> None:
    _create_pictures()
    _create_answers()
    _create_decisions()


def _create_pictures() -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(80), nullable=False, unique=True),
        sa.Column("created_at", sa.String(40), nullable=False),
    )
    op.create_table(
        "originals",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "pictures",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), sa.ForeignKey("originals.sha256"), nullable=False),
        sa.Column("phash", sa.String(16), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("file_name", "prompt")),
        sa.Column("added_at", sa.String(40), nullable=False),
        sa.UniqueConstraint("case_id", "number"),
        sa.UniqueConstraint("case_id", "sha256"),
    )


def _create_answers() -> None:
    op.create_table(
        "answers",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("picture_id", sa.Integer, sa.ForeignKey("pictures.id"), nullable=False, index=True),
        sa.Column("result_id", sa.String(16), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("record_sha256", "model", "index_fingerprint")),
        sa.Column("answered_at", sa.String(40), nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("number_standing_out", sa.Integer),
        sa.UniqueConstraint("picture_id", "result_id", "record_sha256"),
    )
    credits = ("caption", "subject", "collection", "creator", "licence", "licence_url", "source_url")
    op.create_table(
        "matches",
        sa.Column("answer_id", sa.Integer, sa.ForeignKey("answers.id"), primary_key=True),
        sa.Column("rank", sa.Integer, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("example_id", *credits)),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("phash", sa.String(16), nullable=False),
        sa.Column("score", sa.Float, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("best_rank", "worst_rank")),
        sa.Column("similarity", sa.Float, nullable=False),
        sa.Column("p_value", sa.Float),
        sa.Column("stands_out", sa.Boolean),
    )
    op.create_table(
        "signals",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False, index=True),
        sa.Column("name", sa.String(40), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("value", "read_from")),
        sa.Column("read_at", sa.String(40), nullable=False),
        sa.UniqueConstraint("sha256", "name", "value", "read_from"),
    )


def _create_decisions() -> None:
    op.create_table(
        "decisions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("case_id", sa.Integer, sa.ForeignKey("cases.id"), nullable=False, index=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("picture", sa.String(64), nullable=False),
        sa.Column("example_id", sa.Text, nullable=False),
        sa.Column("verdict", sa.String(20), nullable=False),
        sa.Column("withdraws", sa.Integer),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("reason", "author")),
        sa.Column("decided_at", sa.String(40), nullable=False),
        sa.Column("result_id", sa.String(16), nullable=False),
        *(sa.Column(name, sa.String(64), nullable=False) for name in ("record_sha256", "former")),
        sa.Column("hash", sa.String(64), nullable=False, unique=True),
        sa.UniqueConstraint("case_id", "number"),
    )
    dialect = op.get_context().dialect.name
    if dialect == "postgresql":
        for statement in POSTGRESQL:
            op.execute(statement)
    else:
        for event in ("UPDATE", "DELETE"):
            op.execute(SQLITE.format(event=event, message=KEPT))

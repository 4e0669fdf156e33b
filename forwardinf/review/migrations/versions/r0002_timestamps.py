"""Time stamps of manifests, so that a pack that is made again has the stamp it had."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "timestamps",
        sa.Column("manifest", sa.String(64), primary_key=True),
        sa.Column("token", sa.LargeBinary, nullable=False),
    )

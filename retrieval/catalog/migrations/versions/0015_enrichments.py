"""Texts that models found in pictures and speech; from when to when an item lasts."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("items", sa.Column("start_s", sa.Double))
    op.add_column("items", sa.Column("end_s", sa.Double))
    op.create_table(
        "enrichments",
        sa.Column("task", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(128), primary_key=True),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("text", sa.Text),
        sa.Column("segments", sa.JSON, nullable=False),
        sa.Column("failure", sa.Text),
    )

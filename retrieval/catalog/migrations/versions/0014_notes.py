"""What could not be read of files that were indexed all the same."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "notes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("ix_notes_file_id", "notes", ["file_id"])

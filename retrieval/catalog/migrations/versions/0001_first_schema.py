"""Sources, files, items and their rows."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("added_at", sa.Integer, nullable=False),
    )
    op.create_table(
        "files",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.LargeBinary, nullable=False, unique=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("mtime_ns", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.String(64)),
    )
    op.create_index("ix_files_state", "files", ["state"])
    op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
    )
    op.create_index("ix_items_file_id", "items", ["file_id"])
    op.create_table(
        "rows",
        sa.Column("space_id", sa.String(64), primary_key=True),
        sa.Column("item_id", sa.Integer, sa.ForeignKey("items.id"), primary_key=True),
        sa.Column("modality", sa.String(16), nullable=False),
        sa.Column("row", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_rows_space_modality_row", "rows", ["space_id", "modality", "row"])
    op.create_table(
        "extents",
        sa.Column("space_id", sa.String(64), primary_key=True),
        sa.Column("modality", sa.String(16), primary_key=True),
        sa.Column("row_count", sa.BigInteger, nullable=False),
    )

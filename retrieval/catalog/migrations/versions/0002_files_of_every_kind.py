"""Videos, documents, texts and tables: files with many items, and what files say of themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("sources") as sources:
        sources.add_column(sa.Column("options", sa.JSON))
    with op.batch_alter_table("files") as files:
        files.add_column(sa.Column("kind", sa.String(16), nullable=False, server_default="image"))
        files.add_column(sa.Column("taken_at", sa.BigInteger))
        files.add_column(sa.Column("camera", sa.Text))
        files.add_column(sa.Column("latitude", sa.Double))
        files.add_column(sa.Column("longitude", sa.Double))
        files.add_column(sa.Column("duration_s", sa.Double))
        files.add_column(sa.Column("text", sa.Text))
    op.create_index("ix_files_size", "files", ["size"])
    op.create_index("ix_files_content_hash", "files", ["content_hash"])
    op.drop_index("ix_items_file_id", "items")
    with op.batch_alter_table("items") as items:
        items.add_column(sa.Column("part", sa.String(64), nullable=False, server_default=""))
        items.add_column(sa.Column("page", sa.Integer))
        items.add_column(sa.Column("time_s", sa.Double))
        items.add_column(sa.Column("text", sa.Text))
        items.add_column(sa.Column("columns", sa.JSON))
    op.create_index(
        "ix_items_file_modality_part", "items", ["file_id", "modality", "part"], unique=True
    )
    op.create_index("ix_rows_content_hash", "rows", ["content_hash"])
    op.create_table(
        "readings",
        sa.Column("space_id", sa.String(64), primary_key=True),
        sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id"), primary_key=True),
        sa.Column("content_hash", sa.String(64), nullable=False),
    )
    op.execute(
        "INSERT INTO readings (space_id, file_id, content_hash) "
        "SELECT rows.space_id, items.file_id, rows.content_hash "
        "FROM rows JOIN items ON items.id = rows.item_id"
    )
    op.create_table(
        "annotations",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("file_id", sa.Integer, sa.ForeignKey("files.id"), nullable=False),
        sa.Column("image_path", sa.LargeBinary, nullable=False),
        sa.Column("columns", sa.JSON, nullable=False),
    )
    op.create_index("ix_annotations_file_id", "annotations", ["file_id"])
    op.create_index("ix_annotations_image_path", "annotations", ["image_path"])

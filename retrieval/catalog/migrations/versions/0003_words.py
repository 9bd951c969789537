"""Words of files and items, for full-text search; rows by their item, in all spaces.

A later migration, 0006, fills the text index.
"""

from alembic import op

from retrieval.catalog.dialects import dialect_of

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    dialect_of(connection).create_text_index(connection)
    op.create_index("ix_rows_item_id", "rows", ["item_id"])

"""Words with their stems, without the folders above a source and the endings of file names."""

from alembic import op

from retrieval.catalog.dialects import DIALECTS
from retrieval.catalog.fulltext.index import FILE_WORDS, ITEM_WORDS, fill

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    connection = op.get_bind()
    for table in (FILE_WORDS, ITEM_WORDS):
        op.drop_table(table.name)
    DIALECTS[connection.dialect.name].create_text_index(connection)
    fill(connection, with_places=False)

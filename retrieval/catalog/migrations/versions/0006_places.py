"""Names of places, from the coordinates that are known of files; the text index, with them."""

import sqlalchemy as sa
from alembic import op

from retrieval.catalog.dialects import dialect_of
from retrieval.catalog.fulltext.index import fill
from retrieval.catalog.schema import FILE_WORDS, ITEM_WORDS
from retrieval.media.places import place_name

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_FILES = sa.table("files", *map(sa.column, ("id", "latitude", "longitude", "place")))
_AT_ONCE = 10_000


def upgrade() -> None:
    connection = op.get_bind()
    op.add_column("files", sa.Column("place", sa.Text))
    located = connection.execute(
        sa.select(_FILES.c.id, _FILES.c.latitude, _FILES.c.longitude).where(
            _FILES.c.latitude.is_not(None), _FILES.c.longitude.is_not(None)
        )
    ).all()
    for start in range(0, len(located), _AT_ONCE):
        files = located[start : start + _AT_ONCE]
        named = [
            {"known_id": file.id, "place": place}
            for file in files
            if (place := place_name(file.latitude, file.longitude))
        ]
        if named:
            connection.execute(
                sa.update(_FILES).where(_FILES.c.id == sa.bindparam("known_id")), named
            )
    for table in (FILE_WORDS, ITEM_WORDS):
        op.drop_table(table.name)
    dialect_of(connection).create_text_index(connection)
    fill(connection)

"""Columns and indexes for filters and facets: folder and date of files, the file of each row."""

import sqlalchemy as sa
from alembic import op

from retrieval.catalog.derived import refresh

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "folders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("path", sa.LargeBinary, nullable=False, unique=True),
    )
    op.add_column("files", sa.Column("folder_id", sa.Integer))
    op.add_column("files", sa.Column("date", sa.BigInteger))
    op.add_column("rows", sa.Column("file_id", sa.Integer, nullable=False, server_default="0"))
    connection = op.get_bind()
    connection.exec_driver_sql(
        "UPDATE rows SET file_id = (SELECT file_id FROM items WHERE items.id = rows.item_id)"
    )
    # A version that could leave rows of an earlier content behind is not known; none are kept.
    connection.exec_driver_sql(
        "DELETE FROM rows WHERE EXISTS (SELECT 1 FROM files WHERE files.id = rows.file_id "
        "AND files.content_hash <> rows.content_hash)"
    )
    refresh(connection)
    op.drop_index("ix_rows_space_modality_row", "rows")
    op.create_index(
        "ix_rows_space_modality_row", "rows", ["space_id", "modality", "row", "file_id", "item_id"]
    )
    for name, columns in {
        "ix_files_folder_id": ["folder_id"],
        "ix_files_date": ["date"],
        "ix_files_kind": ["kind"],
        "ix_files_camera": ["camera"],
        "ix_files_place": ["place"],
        "ix_files_latitude_longitude": ["latitude", "longitude"],
    }.items():
        op.create_index(name, "files", columns)

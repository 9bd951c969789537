"""Local date and time of files, and which dates are to be read again for it."""

import sqlalchemy as sa
from alembic import op

from retrieval.media import UNTRUSTED_MTIME, local_clock_seconds

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_READ_BEFORE = 0
_WITHOUT_DATE = 1
_ROWS_AT_ONCE = 10_000


def upgrade() -> None:
    with op.batch_alter_table("files") as table:
        table.add_column(sa.Column("taken_local", sa.BigInteger))
        table.add_column(
            sa.Column(
                "metadata_version", sa.Integer, nullable=False, server_default=str(_READ_BEFORE)
            )
        )
    op.create_index("ix_files_taken_local", "files", ["taken_local"])
    # Right for dates without a zone; the next run reads the others again.
    op.execute("UPDATE files SET taken_local = taken_at WHERE taken_at IS NOT NULL")
    files = sa.table(
        "files",
        sa.column("id", sa.Integer),
        sa.column("taken_at", sa.BigInteger),
        sa.column("mtime_ns", sa.BigInteger),
        sa.column("taken_local", sa.BigInteger),
        sa.column("metadata_version", sa.Integer),
    )
    connection = op.get_bind()
    connection.execute(
        files.update().where(files.c.taken_at.is_(None)).values(metadata_version=_WITHOUT_DATE)
    )
    of_mtime = (
        sa.select(files.c.id, files.c.mtime_ns)
        .where(files.c.taken_at.is_(None), files.c.mtime_ns != UNTRUSTED_MTIME)
        .order_by(files.c.id)
        .limit(_ROWS_AT_ONCE)
    )
    update = (
        files.update()
        .where(files.c.id == sa.bindparam("file"))
        .values(taken_local=sa.bindparam("local"))
    )
    last = 0
    while rows := connection.execute(of_mtime.where(files.c.id > last)).all():
        connection.execute(
            update,
            [
                {"file": file, "local": local_clock_seconds(mtime_ns // 1_000_000_000)}
                for file, mtime_ns in rows
            ],
        )
        last = rows[-1].id

"""What says the date of a file, and the state of its sidecars when they were read."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("files", sa.Column("date_source", sa.String(16)))
    op.add_column("files", sa.Column("sidecars", sa.BigInteger))

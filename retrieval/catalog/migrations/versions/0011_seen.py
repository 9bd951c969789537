"""Remember what the last walk of a source passed over, and the drives mounted below it."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column; the next run fills it."""
    op.add_column("sources", sa.Column("seen", sa.JSON()))

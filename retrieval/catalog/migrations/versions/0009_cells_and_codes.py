"""What filters by column and facets look up: cells of tables by value, codes of files."""

import sqlalchemy as sa
from alembic import op

from retrieval.catalog import cells, facets

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cell_values",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
        sa.Column("number", sa.Numeric),
        sa.Column("truth", sa.Boolean),
    )
    for owner in ("file", "item"):
        op.create_table(
            f"{owner}_cells",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column(f"{owner}_id", sa.Integer, nullable=False),
            sa.Column("value_id", sa.Integer, nullable=False),
        )
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("facet", sa.String(16), nullable=False),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "codes",
        sa.Column("first_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("codes", sa.LargeBinary, nullable=False),
    )
    op.create_index("ix_labels_facet_value", "labels", ["facet", "value"], unique=True)
    op.create_index("ix_cell_values_digest", "cell_values", ["digest"])
    op.create_index("ix_cell_values_name_number", "cell_values", ["name", "number"])
    for owner in ("file", "item"):
        table, owner_id = f"{owner}_cells", f"{owner}_id"
        op.create_index(f"ix_{table}_value_{owner}", table, ["value_id", owner_id])
        op.create_index(f"ix_{table}_{owner}_value", table, [owner_id, "value_id"])
    cells.fill(op.get_bind())
    facets.fill(op.get_bind())

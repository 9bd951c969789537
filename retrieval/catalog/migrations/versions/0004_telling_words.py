"""Words with their stems, without the folders above a source and the endings of file names.

The migration that names places makes the text index anew, with both.
"""

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing."""

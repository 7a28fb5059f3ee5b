"""What an account may do. Those that there are could do everything, and go on so."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user_account", sa.Column("role", sa.String(length=16), nullable=False, server_default="engineer"))

"""What annotators found on a tile that was pushed to them: what they did to it is told from that."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("remote_task", sa.Column("shown", sa.JSON(), nullable=True))

"""Annotations are found by the strip of their scene that they begin in."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("annotation_by_scene", table_name="annotation")
    op.create_index("annotation_by_place", "annotation", ["scene_id", "state", "y1"])

"""What a learning curve is made of, as the catalog knows it."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import update

from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.learning import AnnotatedTile, annotated_tiles, measured_models
from engine.catalog.models import add_model, get_model
from engine.catalog.schema import Annotation, Review
from engine.catalog.workspace import Workspace
from engine.errors import BadInput

Fake = Callable[[str], ModuleType]
ANNOTATED = [AnnotatedTile(9, 3, 10.0), AnnotatedTile(4, 0, None), AnnotatedTile(5, 2, 7.5)]


def learned(workspace: Workspace, name: str, *, tiles: int, boxes: int, stage: str = "finetune", **measured: dict[str, Any]) -> None:
    with workspace.session() as session:
        metrics = {"training": {"tiles": tiles, "boxes": boxes}, **measured}
        add_model(session, name=name, stage=stage, config={}, data_hash="0" * 64, metrics=metrics)


def on(ap50: float | None, tiles: int = 4, boxes: int = 30) -> dict[str, Any]:
    return {"ap50": ap50, "tiles": tiles, "boxes": boxes}


def test_annotated_tiles_come_in_the_order_of_their_review_with_what_they_hold(workspace: Workspace, fake: Fake) -> None:
    with workspace.session() as session:
        set_label_set(session, ["car"])
        scene, rows = fake("catalog").add_scene(session, "train.tif", width=96, height=32, tile=32, split="train")
        _, elsewhere = fake("catalog").add_scene(session, "test.tif", width=32, height=32, tile=32, split="test")
        for x in (2.0, 14.0, 66.0):
            session.add(Annotation(scene_id=scene.id, x1=x, y1=2.0, x2=x + 8, y2=10.0, label=0, source="truth"))
        session.flush()
        mark_reviewed(session, [rows[2].id], by="somebody", seconds=20.0)
        mark_reviewed(session, [elsewhere[0].id], by="somebody", seconds=5.0)
        mark_reviewed(session, [rows[0].id], by="a file")
        assert annotated_tiles(session) == [AnnotatedTile(rows[2].id, 1, 20.0), AnnotatedTile(rows[0].id, 2, None)]
        session.execute(update(Review).where(Review.tile_id == rows[0].id).values(seconds=3.0))
        assert [tile.seconds for tile in annotated_tiles(session)] == [20.0, 3.0]


def test_a_model_learned_from_the_first_tiles_and_what_they_took(workspace: Workspace) -> None:
    learned(workspace, "second", tiles=3, boxes=5, test=on(0.4))
    learned(workspace, "first", tiles=1, boxes=3, test=on(0.2, tiles=7, boxes=80))
    with workspace.session() as session:
        found = measured_models(session, ANNOTATED, "test")
    assert [(each.model, each.tiles, each.boxes, each.seconds, each.ap50) for each in found] == [
        ("first", 1, 3, 10.0, 0.2),
        ("second", 3, 5, 17.5, 0.4),
    ]
    assert (found[0].test_tiles, found[0].test_boxes) == (7, 80)


def test_the_newest_model_counts_at_each_amount_whatever_its_name(workspace: Workspace) -> None:
    for name, ap50 in (("z", 0.2), ("a", 0.3)):
        learned(workspace, name, tiles=2, boxes=3, test=on(ap50))
    learned(workspace, "unmeasured", tiles=2, boxes=3)
    with workspace.session() as session:
        assert [each.model for each in measured_models(session, ANNOTATED, "test")] == ["a"]
        assert [each.model for each in measured_models(session, ANNOTATED, "test", ["z"])] == ["z"]
        assert measured_models(session, ANNOTATED, "test", ["unmeasured"]) == []
        with pytest.raises(BadInput, match="no finetune model named 'y'"):
            measured_models(session, ANNOTATED, "test", ["y"])


def test_only_fine_tuned_models_measured_on_the_split_count(workspace: Workspace) -> None:
    learned(workspace, "on-dev", tiles=1, boxes=3, dev=on(0.1))
    learned(workspace, "pretrained", tiles=9, boxes=0, stage="pretrain", test=on(0.2))
    with workspace.session() as session:
        add_model(session, name="imported", stage="finetune", config={}, data_hash="0" * 64, metrics={"test": on(0.9)})
        assert get_model(session, "imported").metrics["test"]["ap50"] == 0.9
        assert measured_models(session, ANNOTATED, "test") == []
        assert [each.model for each in measured_models(session, ANNOTATED, "dev")] == ["on-dev"]


def test_a_measurement_that_is_none_is_told_as_none(workspace: Workspace) -> None:
    learned(workspace, "odd", tiles=1, boxes=3, test=on(None))
    with workspace.session() as session:
        assert measured_models(session, ANNOTATED, "test")[0].ap50 is None

import numpy as np
import pytest
from sqlalchemy import select

from engine.catalog.annotations import accept_withheld, label_set, mark_reviewed, scene_boxes, set_label_set, tile_boxes
from engine.catalog.schema import Annotation, Review
from engine.catalog.tiles import tiles
from engine.errors import BadInput, LabelSetMismatch


@pytest.fixture
def annotated(workspace, fake):
    """A session with a scene of two tiles of 64 px and three boxes, one of them withheld."""
    with workspace.session() as session:
        scene, _ = fake("catalog").add_scene(session, "a", width=128, height=64, tile=64, split="train")
        for xyxy, label, state in (
            ((10, 10, 20, 30), 0, "accepted"),
            ((58, 0, 68, 10), 1, "accepted"),
            ((100, 40, 120, 60), 0, "withheld"),
            ((60, 50, 70, 60), 0, "deleted"),
        ):
            x1, y1, x2, y2 = xyxy
            session.add(Annotation(scene_id=scene.id, x1=x1, y1=y1, x2=x2, y2=y2, label=label, source="test", state=state))
        session.flush()
        yield session


def test_scene_boxes_are_in_scene_pixels_and_show_accepted_ones_alone(annotated):
    boxes = scene_boxes(annotated, 1)
    assert boxes.xyxy.tolist() == [[10, 10, 20, 30], [58, 0, 68, 10]]
    assert boxes.labels.tolist() == [0, 1]
    assert len(scene_boxes(annotated, 1, ("accepted", "withheld"))) == 3
    assert len(scene_boxes(annotated, 99)) == 0


def test_tile_boxes_are_clipped_to_the_tile_and_in_its_pixels(annotated):
    left, right = tile_boxes(annotated, tiles(annotated)).values()
    assert left.xyxy.tolist() == [[10, 10, 20, 30], [58, 0, 64, 10]]
    assert right.xyxy.tolist() == [[0, 0, 4, 10]], "40 % of the box lies here"
    assert right.labels.tolist() == [1]


def test_a_box_less_than_two_fifths_visible_does_not_count(annotated):
    annotated.scalars(select(Annotation).where(Annotation.label == 1)).one().x1 = 57
    boxes = tile_boxes(annotated, tiles(annotated))
    assert [len(found) for found in boxes.values()] == [2, 0]


def test_withheld_boxes_are_shown_to_who_asks_for_them(annotated):
    boxes = tile_boxes(annotated, tiles(annotated), ("withheld",))
    assert [found.xyxy.tolist() for found in boxes.values()] == [[], [[36, 40, 56, 60]]]


def test_no_tiles_have_no_boxes(annotated):
    assert tile_boxes(annotated, []) == {}


def test_the_label_set_is_fixed_once(workspace):
    with workspace.session() as session:
        with pytest.raises(BadInput, match="labels import"):
            label_set(session)
        set_label_set(session, ["ship", "plane"])
        assert set_label_set(session, ["ship", "plane"]) == label_set(session)
        for other in (["plane", "ship"], ["ship"], ["ship", "plane", "car"]):
            with pytest.raises(LabelSetMismatch):
                set_label_set(session, other)
        assert label_set(session).names == ("ship", "plane")


def test_a_label_set_without_a_class_is_refused(workspace):
    with workspace.session() as session, pytest.raises(BadInput, match="empty list"):
        set_label_set(session, [])


def test_a_tile_keeps_its_first_review(annotated):
    assert mark_reviewed(annotated, [1], by="anna", seconds=12.0) == 1
    assert mark_reviewed(annotated, [2, 1, 2], by="ben") == 1
    found = [(review.tile_id, review.by, review.seconds) for review in annotated.scalars(select(Review).order_by(Review.tile_id))]
    assert found == [(1, "anna", 12.0), (2, "ben", None)]
    assert mark_reviewed(annotated, np.array([], dtype=np.int64).tolist(), by="ben") == 0


def test_paying_for_a_tile_shows_what_is_withheld_there_and_nothing_else(annotated):
    left, right = tiles(annotated)
    assert accept_withheld(annotated, left, annotator="oracle") == 0
    assert accept_withheld(annotated, right, annotator="oracle") == 1
    assert accept_withheld(annotated, right, annotator="oracle") == 0
    shown = annotated.get_one(Annotation, 3)
    assert (shown.state, shown.annotator, shown.version) == ("accepted", "oracle", 2)
    assert annotated.get_one(Annotation, 4).state == "deleted"

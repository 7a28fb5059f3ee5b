"""A scene as somebody looks at it."""

from __future__ import annotations

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed, set_label_set
from engine.catalog.models import add_model
from engine.catalog.predictions import add_prediction_set, predictions_directory
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.scene_view import ViewedTile, believed_boxes, scene_view
from engine.catalog.schema import Annotation
from engine.catalog.suggestions import suggested_on
from engine.inference.predictions import Predictions
from engine.records import Window

WHOLE = (0.0, 0.0, 256.0, 64.0)


@pytest.fixture
def scene(workspace, fake):
    """Four tiles side by side: looked at, chosen, both, neither; five cars of growing size, one of them withheld; and another scene."""
    with workspace.session() as session:
        set_label_set(session, ["car", "house"])
        made, rows = fake("catalog").add_scene(session, "a.tif", width=256, height=64, split="train")
        other, _ = fake("catalog").add_scene(session, "b.tif", width=256, height=64, split="train")
        for index in range(5):
            box = {"x1": 10.0 + 40 * index, "y1": 10.0, "x2": 14.0 + 41 * index, "y2": 14.0 + index}
            session.add(Annotation(scene_id=made.id, label=0, source="test", state="withheld" if index == 3 else "accepted", **box))
        session.add(Annotation(scene_id=other.id, label=1, source="test", x1=1.0, y1=1.0, x2=60.0, y2=60.0))
        mark_reviewed(session, [rows[0].id, rows[2].id], by="ana")
        chosen = [ChosenTile(rows[index].id, 1.0, 1.0, {}) for index in (1, 2)]
        add_round(session, budget_seconds=1.0, strategy="random", seed=0, chosen=chosen)
    return workspace, made.id, [row.id for row in rows]


def test_whole_scene_shows_accepted_boxes_the_largest_first_and_what_became_of_its_tiles(scene):
    workspace, scene_id, ids = scene
    with workspace.session(write=False) as session:
        view = scene_view(session, scene_id, WHOLE, limit=100)
    assert [(box[0], box[4]) for box in view.boxes] == [(170.0, 0), (90.0, 0), (50.0, 0), (10.0, 0)]
    assert (view.boxes_total, view.tiles_total) == (4, 4)
    assert [(tile.id, tile.state) for tile in view.tiles] == list(zip(ids, ["reviewed", "chosen", "reviewed", "open"], strict=True))


@pytest.mark.parametrize(
    ("view", "boxes", "tiles"),
    [
        ((0, 0, 64, 64), 2, 1),
        ((0, 0, 64.5, 64), 2, 2),
        ((11, 11, 12, 12), 1, 1),
        ((0, 20, 256, 64), 0, 4),
        ((-9, -9, 0, 0), 0, 0),
        ((300, 0, 400, 64), 0, 0),
    ],
)
def test_part_of_a_scene_shows_what_reaches_into_it(scene, view, boxes, tiles):
    workspace, scene_id, _ = scene
    with workspace.session(write=False) as session:
        seen = scene_view(session, scene_id, view, limit=100)
    assert (len(seen.boxes), len(seen.tiles)) == (boxes, tiles) == (seen.boxes_total, seen.tiles_total)


def test_more_than_the_limit_is_counted_and_the_largest_boxes_stay(scene):
    workspace, scene_id, _ = scene
    with workspace.session(write=False) as session:
        view = scene_view(session, scene_id, WHOLE, limit=2)
    assert [box[0] for box in view.boxes] == [170.0, 90.0]
    assert (view.boxes_total, view.tiles, view.tiles_total) == (4, [], 4)


def test_what_the_detector_saw_on_overlapping_tiles_is_one_object(workspace, fake):
    with workspace.session() as session:
        fingerprint = set_label_set(session, ["car"]).fingerprint
        _, rows = fake("catalog").add_scene(session, "a.tif", width=112, height=64, tile=64, overlap=16, split="train")
        model = add_model(session, name="m", stage="finetune", config={}, data_hash="0" * 64, label_set_fingerprint=fingerprint)
        ids = sorted(row.id for row in rows)
        found = Predictions(
            tile_ids=np.array(ids),
            embeddings=np.zeros((2, 4)),
            tile_index=np.array([0, 0, 1]),
            boxes_tile=np.array([[50, 10, 60, 20], [5, 5, 9, 9], [2, 10, 12, 20]]),
            labels=np.zeros(3),
            scores=np.array([0.9, 0.2, 0.8]),
            class_scores=np.array([[0.9], [0.2], [0.8]]),
            drift=np.zeros(3),
        )
        found.save(predictions_directory(workspace, "p"))
        add_prediction_set(session, name="p", model=model, tiles=2)
        tiles = [ViewedTile(row.id, Window(row.x, row.y, row.width, row.height), "train", "open") for row in rows]
    believed = believed_boxes(workspace, tiles, 112, 64, 0.3)
    assert believed.xyxy.tolist() == [[50, 10, 60, 20]]
    assert len(believed_boxes(workspace, tiles, 112, 64, 0.1)) == 2


def test_each_tile_is_shown_by_the_newest_set_that_holds_it(workspace, fake):
    with workspace.session() as session:
        fingerprint = set_label_set(session, ["car"]).fingerprint
        _, rows = fake("catalog").add_scene(session, "a.tif", width=192, height=64, split="train")
        model = add_model(session, name="m", stage="finetune", config={}, data_hash="0" * 64, label_set_fingerprint=fingerprint)
        train, both, nowhere = sorted(row.id for row in rows)
        for name, held, score in (("older", [train, both], 0.6), ("newer", [both], 0.9)):
            count = len(held)
            Predictions(
                tile_ids=np.array(held),
                embeddings=np.zeros((count, 4)),
                tile_index=np.arange(count),
                boxes_tile=np.tile([5.0, 5, 9, 9], (count, 1)),
                labels=np.zeros(count),
                scores=np.full(count, score),
                class_scores=np.full((count, 1), score),
                drift=np.zeros(count),
            ).save(predictions_directory(workspace, name))
            add_prediction_set(session, name=name, model=model, tiles=count)
    found = suggested_on(workspace, [train, both, nowhere], 0.3)
    assert {tile: np.round(boxes.scores, 3).tolist() for tile, boxes in found.items()} == {train: [0.6], both: [0.9]}
    assert len(suggested_on(workspace, [train, both], 0.7)[train]) == 0


def test_without_a_detector_nothing_is_believed(scene):
    workspace, _, ids = scene
    believed = believed_boxes(workspace, [ViewedTile(ids[0], Window(0, 0, 64, 64), "train", "open")], 256, 64, 0.1)
    assert isinstance(believed, Boxes)
    assert len(believed) == 0

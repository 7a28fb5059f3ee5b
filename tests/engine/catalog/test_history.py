"""Who saved what on a tile, and the boxes as they were then."""

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.catalog import ledger
from engine.catalog.annotations import set_label_set
from engine.catalog.decisions import decide, take_back_last
from engine.catalog.history import BEFORE, tile_history, version_boxes
from engine.catalog.models import add_model
from engine.catalog.reviews import save_review, tile_state
from engine.catalog.schema import Annotation
from engine.catalog.searches import FoundHit, add_search, hits
from engine.catalog.withdrawals import withdraw
from engine.errors import BadInput


@pytest.fixture
def tile(workspace, fake):
    """A tile of 64 px with one box from a file, and that box's half on the tile beside it."""
    with workspace.session() as session:
        set_label_set(session, ["car", "ship"])
        scene, rows = fake("catalog").add_scene(session, "a.tif", width=128, height=64, split="train")
        session.add(Annotation(scene_id=scene.id, x1=40, y1=10, x2=70, y2=30, label=0, source="labels.json", created=1.0))
        session.add(Annotation(scene_id=scene.id, x1=2, y1=2, x2=9, y2=9, label=0, source="labels.json", state="withheld"))
        return rows[0].id


def drawn(*boxes, labels=None):
    return Boxes(np.asarray(boxes, dtype=float).reshape(-1, 4), np.asarray(labels if labels is not None else [0] * len(boxes), dtype=int))


def save(workspace, tile, boxes, by="ana", source="browser", *, complete=False):
    with workspace.session() as session:
        return save_review(session, tile, boxes, source=source, annotator=by, seconds=None, complete=complete)


def history(workspace, tile):
    with workspace.session(write=False) as session:
        return tile_history(session, tile)


def boxes(workspace, tile, number):
    with workspace.session(write=False) as session:
        found = version_boxes(session, tile, number)
    return [(*box, label) for box, label in zip(found.xyxy.tolist(), found.labels.tolist(), strict=True)]


def test_every_save_is_a_version_the_newest_first_down_to_the_file(workspace, tile):
    save(workspace, tile, drawn((40, 10, 64, 30), (5, 5, 15, 16)))
    save(workspace, tile, drawn((42, 10, 64, 30), labels=[1]), by="bo", source="label-studio", complete=True)
    found = history(workspace, tile)
    assert [(each.by, each.source, each.act, each.boxes) for each in found] == [
        ("bo", "label-studio", "saved as complete", 1),
        ("ana", "browser", "saved", 2),
        ("labels.json", "labels.json", "brought in", None),
        ("", "", "as the first save found it", 1),
    ]
    assert found[0].changes == {"moved": 1, "removed": 1}
    assert found[0].at >= found[1].at
    assert boxes(workspace, tile, found[0].number) == [(42, 10, 64, 30, 1)]
    assert boxes(workspace, tile, found[1].number) == [(40, 10, 64, 30, 0), (5, 5, 15, 16, 0)]
    assert boxes(workspace, tile, BEFORE) == [(40, 10, 64, 30, 0)]


def test_what_the_first_save_moved_and_deleted_is_in_what_it_found(workspace, tile):
    save(workspace, tile, drawn((44, 10, 64, 30), labels=[1]))
    assert boxes(workspace, tile, BEFORE) == [(40, 10, 64, 30, 0)]


def test_going_back_is_a_version_of_its_own_and_erases_nothing(workspace, tile):
    save(workspace, tile, drawn((40, 10, 64, 30), (5, 5, 15, 16)))
    save(workspace, tile, drawn())
    wanted = history(workspace, tile)[1].number
    with workspace.session() as session:
        earlier = version_boxes(session, tile, wanted)
        save_review(session, tile, earlier, source="browser", annotator="cy", seconds=None, complete=False)
        assert np.array_equal(tile_state(session, tile).boxes_tile.xyxy, earlier.xyxy)
    assert [each.by for each in history(workspace, tile)] == ["cy", "ana", "ana", "labels.json", ""]


def test_decisions_on_look_alikes_are_told(workspace, tile):
    with workspace.session() as session:
        model = add_model(session, name="m", stage="pretrain", config={}, data_hash="0")
        hit = FoundHit(tile, (10.0, 40.0, 20.0, 50.0), 0.9)
        number = add_search(session, fingerprint="f", tile_id=tile, box_tile=(0.0, 0, 9, 9), model_id=model.id, config={}, found=[hit])
        decide(session, hits(session, number)[0].id, accept=True, label=1, annotator="ana")
        take_back_last(session, number, annotator="ana")
    assert [(each.act, each.source, each.number) for each in history(workspace, tile)[:2]] == [
        ("took a decision on a look-alike back", f"search {number}", None),
        ("said yes to a look-alike", f"search {number}", None),
    ]


def test_a_save_from_before_boxes_were_kept_is_told_without_them(workspace, tile):
    counts = {"added": 1, "moved": 0, "relabelled": 0, "removed": 0, "unchanged": 0}
    with workspace.session() as session:
        ledger.record(session, "review", tile=tile, source="browser", annotator="ana", complete=True, **counts, before=[])
    (version, *_) = history(workspace, tile)
    assert (version.number, version.boxes, version.changes) == (None, None, {"added": 1})
    with pytest.raises(BadInput, match="no version 0"):
        boxes(workspace, tile, BEFORE)


def test_a_version_of_another_tile_is_refused(workspace, tile):
    save(workspace, tile, drawn())
    with pytest.raises(BadInput, match="no version 999"):
        boxes(workspace, tile, 999)
    with pytest.raises(BadInput, match="no tile 77"):
        history(workspace, 77)


def test_an_answer_that_was_deleted_on_its_server_is_told(workspace, tile):
    with workspace.session() as session:
        answer = {"source": "label-studio", "annotator": "bo", "seconds": None, "complete": True, "origin": "task 3"}
        save_review(session, tile, drawn((40, 10, 64, 30), (5, 5, 15, 16)), **answer)
        withdraw(session, tile, "task 3")
    (version, *_) = history(workspace, tile)
    assert (version.act, version.by, version.changes) == ("answer deleted there", "task 3", {"removed": 1})

"""audit: doubtful labels come back to the Review page, for a bounded share of the budget, until somebody has looked."""

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import delete, select, update

from engine.boxes import Boxes
from engine.catalog.annotations import mark_reviewed
from engine.catalog.reviews import review_queue, save_review, tile_state
from engine.catalog.rounds import ChosenTile, add_round, get_round, rounds
from engine.catalog.schema import Annotation, Review, RoundTile, Scene
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo
from engine.stages.audit import AuditConfig, audit


@pytest.fixture
def workspace(tmp_path, fake):
    """Everything on train ground is labelled, and a detector finds all of it surely."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        fake("labelled").predict(made, "first", score=0.95)
        with made.session() as session:
            session.execute(update(Annotation).values(state="accepted"))
            mark_reviewed(session, ids(fake, made), by="somebody", seconds=100.0)
            for scene in session.scalars(select(Scene)):
                Image.new("RGB", (scene.width, scene.height), (90, 110, 80)).save(made.root / scene.path, format="TIFF")
        yield made


def ids(fake, workspace):
    return [tile.id for tile in fake("labelled").records(workspace, "train")]


def shown(workspace, tile_id):
    with workspace.session(write=False) as session:
        return tile_state(session, tile_id).boxes_tile


def without_a_box(workspace, fake):
    """Delete the first box of the first tile that has one; returns the tile."""
    tile_id = next(each for each in ids(fake, workspace) if len(shown(workspace, each)))
    kept = shown(workspace, tile_id)
    with workspace.session() as session:
        save_review(session, tile_id, kept.take(np.arange(1, len(kept))), source="browser", annotator="hasty", seconds=1.0, complete=True)
    return tile_id


def test_where_detector_and_labels_agree_there_is_nothing_to_look_at(workspace):
    report = audit(workspace, AuditConfig())
    assert (report.round, report.tiles, report.disagreements, report.picture) == (None, (), {}, None)
    with workspace.session(write=False) as session:
        assert rounds(session) == []


def test_looking_again_costs_what_these_annotators_take(workspace, fake):
    without_a_box(workspace, fake)
    pace = AuditConfig().prices
    configured = audit(workspace, AuditConfig(fit={"measured": False})).tiles[0].seconds
    with workspace.session() as session:
        session.execute(delete(RoundTile))
        for place, tile_id in enumerate(ids(fake, workspace)):
            acts = (place % 5, place % 2, place % 3, 0)
            record_visit(session, MeasuredVisit(tile_id, "slow", "browser", 3 * float(pace.seconds(*acts)), *acts))
    slow = audit(workspace, AuditConfig()).tiles[0].seconds
    assert slow == pytest.approx(3 * configured, rel=0.2)
    assert configured == pytest.approx(float(pace.seconds(*known_acts(workspace, fake))))


def known_acts(workspace, fake):
    """Looking at the labels of the doubtful tile, and moving one."""
    tile_id = next(each for each in ids(fake, workspace) if len(shown(workspace, each)))
    return len(shown(workspace, tile_id)), 1, 0, 0


def test_a_box_that_was_forgotten_comes_back_until_somebody_has_looked(workspace, fake):
    tile_id = without_a_box(workspace, fake)
    report = audit(workspace, AuditConfig())
    assert report.disagreements == {"missing": 1}
    assert [tile.tile_id for tile in report.tiles] == [tile_id]
    assert "where nothing is drawn" in report.tiles[0].why
    assert report.estimated_seconds <= report.budget_seconds
    assert (workspace.root / report.picture).read_bytes()[:4] == b"\x89PNG"
    with workspace.session() as session:
        row = get_round(session)
        assert (row.strategy, row.state) == ("audit", "ranked")
        assert [tile.id for tile in review_queue(session)] == [tile_id]
    assert audit(workspace, AuditConfig()).tiles == ()
    box = report.tiles[0].disagreements[0]
    mended = shown(workspace, tile_id)
    drawn = Boxes(np.vstack([mended.xyxy, box.box]), np.append(mended.labels, box.detected))
    with workspace.session() as session:
        save_review(session, tile_id, drawn, source="browser", annotator="careful", seconds=None, complete=True)
        assert review_queue(session) == []
        assert get_round(session).state == "annotated"
    assert audit(workspace, AuditConfig()).disagreements == {}


def test_scenes_that_are_gone_leave_the_picture_out_and_nothing_else(workspace, fake):
    without_a_box(workspace, fake)
    for path in (workspace.root / "scenes").iterdir():
        path.unlink()
    report = audit(workspace, AuditConfig())
    assert report.picture is None
    assert len(report.tiles) == 1


def test_the_budget_is_a_share_of_what_was_spent_and_holds(workspace, fake):
    without_a_box(workspace, fake)
    for small in (AuditConfig(budget_seconds=1.0), AuditConfig(share=1e-6, least_seconds=1.0)):
        with pytest.raises(NothingToDo, match=r"1 tiles with labels to doubt, the cheapest of which takes .* 1\.0 seconds for audits"):
            audit(workspace, small)
    with workspace.session(write=False) as session:
        assert rounds(session) == []
    assert audit(workspace, AuditConfig(least_seconds=77.0)).budget_seconds == 77.0


def test_seconds_outside_of_rounds_are_spent_too(workspace, fake):
    tile_id = without_a_box(workspace, fake)
    spent = 100.0 * len(ids(fake, workspace)) + 1
    config = AuditConfig(share=0.1, least_seconds=1.0)
    first = audit(workspace, config)
    assert first.budget_seconds == pytest.approx(0.1 * spent)
    with workspace.session() as session:
        add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=[ChosenTile(tile_id, 1.0, 9.0, {})]).measured_seconds = 40.0
    assert audit(workspace, config).budget_seconds == pytest.approx(0.1 * (spent - 101 + 40) - first.estimated_seconds)


def confirm(workspace, tile_id, seconds=60.0):
    """Somebody looks at the tile again and leaves it as it is."""
    with workspace.session() as session:
        boxes = tile_state(session, tile_id).boxes_tile
        save_review(session, tile_id, boxes, source="browser", annotator="sure", seconds=seconds, complete=True)


def test_what_somebody_confirmed_is_not_asked_again(workspace, fake):
    tile_id = without_a_box(workspace, fake)
    assert audit(workspace, AuditConfig()).round == 1
    confirm(workspace, tile_id)
    again = audit(workspace, AuditConfig(budget_seconds=1000.0))
    assert (again.round, again.disagreements) == (None, {})
    fake("labelled").predict(workspace, "second", score=0.95, seed=1)
    assert audit(workspace, AuditConfig(budget_seconds=1000.0)).disagreements == {}


def test_newer_predictions_may_ask_for_something_else_on_a_tile_that_was_confirmed(workspace, fake):
    tile_id = without_a_box(workspace, fake)
    audit(workspace, AuditConfig())
    confirm(workspace, tile_id)
    fake("labelled").predict(workspace, "second", score=0.95, seed=1)
    with workspace.session() as session:
        kept = tile_state(session, tile_id).boxes_tile
        moved = Boxes(kept.xyxy, np.where(np.arange(len(kept)) == 0, 1 - kept.labels, kept.labels))
        save_review(session, tile_id, moved, source="browser", annotator="hasty", seconds=1.0, complete=True)
    assert audit(workspace, AuditConfig(predictions="first", budget_seconds=1000.0)).disagreements == {}
    assert audit(workspace, AuditConfig(budget_seconds=1000.0)).disagreements == {"class": 1}


def test_all_audits_together_keep_to_the_share(workspace, fake):
    tile_id = without_a_box(workspace, fake)
    audit(workspace, AuditConfig(least_seconds=100.0))
    confirm(workspace, tile_id, seconds=70.0)
    assert audit(workspace, AuditConfig(least_seconds=100.0)).budget_seconds == pytest.approx(30.0)
    assert audit(workspace, AuditConfig(least_seconds=60.0)).budget_seconds == 0


def test_a_detector_that_saw_the_labelled_tiles_is_enough(workspace, fake):
    *labelled, unlabelled = ids(fake, workspace)
    with workspace.session() as session:
        session.execute(delete(Review).where(Review.tile_id == unlabelled))
    fake("labelled").predict(workspace, "labelled-alone", model="second", score=0.95, only=labelled)
    fake("labelled").predict(workspace, "embeddings", model="pretrained", stage="pretrain", fingerprint=None)
    tile_id = without_a_box(workspace, fake)
    report = audit(workspace, AuditConfig())
    assert report.predictions == "labelled-alone"
    assert [tile.tile_id for tile in report.tiles] == [tile_id]
    for name in ("embeddings", "labelled-alone"):
        with workspace.session() as session:
            mark_reviewed(session, [unlabelled], by="somebody")
        with pytest.raises(BadInput, match="no predictions of a detector") as refused:
            audit(workspace, AuditConfig(predictions=name))
        assert "tilehawk predict --model DETECTOR --split train" in refused.value.remedy


def test_without_labels_or_a_detector_s_predictions_it_is_refused(tmp_path, fake):
    with Workspace.create(tmp_path / "bare") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        with pytest.raises(NothingToDo, match="no tile of the training ground is labelled"):
            audit(made, AuditConfig())
        with made.session() as session:
            mark_reviewed(session, ids(fake, made)[:3], by="somebody")
        with pytest.raises(BadInput, match="no predictions of a detector on the 3 labelled tiles"):
            audit(made, AuditConfig())
        fake("labelled").predict(made, "unlabelled", stage="pretrain", fingerprint=None)
        with pytest.raises(BadInput, match="no predictions of a detector"):
            audit(made, AuditConfig())

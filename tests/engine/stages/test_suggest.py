"""suggest: what the models say of single tiles, at once and without a worker."""

import shutil

import numpy as np
import pytest
import torch
from sqlalchemy import delete, select, update

from engine.annotation_server import ACCEPTED
from engine.boxes import Boxes, box_iou
from engine.catalog.annotations import tile_boxes
from engine.catalog.models import add_model, model_directory
from engine.catalog.predictions import predictions_directory
from engine.catalog.schema import Annotation, PredictionSet, RoundRow
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, CheckpointRefused
from engine.inference.predictions import Predictions
from engine.label_set import LabelSet
from engine.models.detector import Detector
from engine.models.store import save_model
from engine.stages.predict import PredictConfig, predict
from engine.stages.search import SearchConfig, search
from engine.stages.suggest import SuggestConfig, TileSuggestions
from engine.training.loop import seeded

CLOSE = {"patch_size": 32, "likeness": 0.0}


@pytest.fixture
def copy(learned, tmp_path):
    """The trained workspace, to be changed."""
    shutil.copytree(learned.workspace.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        yield workspace


@pytest.fixture(scope="module")
def untrained(squares, fake, tmp_path_factory):
    """Squares and one untrained model, whose backbone knows red from green all the same."""
    with Workspace.create(tmp_path_factory.mktemp("suggest") / "workspace") as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
        add(workspace, squares, "pretrained", "pretrain")
        yield workspace


def add(workspace, squares, name, stage, **changes):
    with seeded(0):
        model = Detector(squares.TINY.model_copy(update=changes), 1 if stage == "one-shot" else 0)
    labels = LabelSet.of(["look-alike"] if stage == "one-shot" else [])
    save_model(model_directory(workspace, name), model, stage=stage, label_set=labels, metrics={}, provenance={})
    with workspace.session() as session:
        add_model(session, name=name, stage=stage, config={}, data_hash="0")


def forget_predictions(workspace):
    """Those that other tests of the trained workspace may have stored."""
    with workspace.session() as session:
        session.execute(update(RoundRow).values(prediction_set_id=None))
        session.execute(delete(PredictionSet))


def first_tile(workspace, split="train"):
    """A tile and its squares in tile pixels."""
    with workspace.session(write=False) as session:
        tile = tiles(session, split=split)[0]
        return tile, tile_boxes(session, [tile])[tile.id]


def without_labels(workspace):
    with workspace.session() as session:
        for row in session.scalars(select(Annotation)):
            row.state = "withheld"


def test_a_tile_that_was_predicted_on_shows_what_is_stored(learned):
    workspace, config = learned.workspace, SuggestConfig(shown_score=0.05)
    report = predict(workspace, PredictConfig(split="test", name="asked", threads=1))
    stored = Predictions.load(predictions_directory(workspace, "asked"))
    found = TileSuggestions(workspace, config).on_tiles(stored.tile_ids.tolist())
    with workspace.session(write=False) as session:
        accepted = tile_boxes(session, tiles(session, ids=list(found)))
    for tile_id, shown in found.items():
        assert shown.model == report.model
        count = len(accepted[tile_id])
        assert shown.boxes_tile.xyxy[:count].tolist() == accepted[tile_id].xyxy.tolist()
        said = stored.of_tile(tile_id)
        assert {tuple(box) for box in shown.boxes_tile.xyxy[count:].tolist()} <= {tuple(box) for box in said.xyxy.tolist()}
        assert (shown.boxes_tile.scores >= 0.05).all()


def test_what_is_computed_now_is_what_would_have_been_stored(copy):
    without_labels(copy)
    predict(copy, PredictConfig(split="test", name="asked", threads=1, batch_size=4))
    tile, _ = first_tile(copy, "test")
    suggestions = TileSuggestions(copy, SuggestConfig(shown_score=0.5))
    stored = suggestions.on_tiles([tile.id])[tile.id]
    shutil.rmtree(predictions_directory(copy, "asked"))
    computed = suggestions.on_tiles([tile.id])[tile.id]
    assert len(stored.boxes_tile) == len(computed.boxes_tile) > 0
    assert np.allclose(stored.boxes_tile.xyxy, computed.boxes_tile.xyxy, atol=0.1)
    assert np.allclose(stored.score, computed.score, atol=1e-2)


def test_damaged_predictions_are_computed_anew(copy):
    predict(copy, PredictConfig(split="test", name="asked", threads=1))
    (predictions_directory(copy, "asked") / "detections.parquet").write_bytes(b"PAR1 cut off")
    tile, _ = first_tile(copy, "test")
    assert list(TileSuggestions(copy).on_tiles([tile.id])) == [tile.id]


def test_unknown_tiles_are_left_out_and_nothing_is_asked_for_none(learned):
    suggestions = TileSuggestions(learned.workspace)
    assert suggestions.on_tiles([987654]) == {}
    assert suggestions.look_alikes(987654, Boxes([[0, 0, 9, 9]], [0])) is None
    assert suggestions.look_alikes(1, Boxes.empty()) is None


def test_without_a_detector_the_accepted_boxes_are_shown(untrained):
    tile, squares = first_tile(untrained)
    shown = TileSuggestions(untrained).on_tiles([tile.id])[tile.id]
    assert (shown.model, shown.score) == (ACCEPTED, None)
    assert shown.boxes_tile.xyxy.tolist() == squares.xyxy.tolist()


def test_a_detector_is_loaded_once_and_a_newer_one_takes_its_place(copy, squares):
    tile, _ = first_tile(copy)
    forget_predictions(copy)
    suggestions = TileSuggestions(copy)
    before = suggestions.on_tiles([tile.id])[tile.id].model
    kept = suggestions._kept["detector"].model
    suggestions.on_tiles([tile.id])
    assert suggestions._kept["detector"].model is kept
    with seeded(1):
        newer = Detector(squares.TINY, 2)
    save_model(model_directory(copy, "newer"), newer, stage="finetune", label_set=squares.LABELS, metrics={}, provenance={})
    with copy.session() as session:
        fingerprint = squares.LABELS.fingerprint
        add_model(session, name="newer", stage="finetune", config={}, data_hash="1", label_set_fingerprint=fingerprint)
    assert before != "newer"
    assert suggestions.on_tiles([tile.id])[tile.id].model == "newer"
    assert len(suggestions._kept) == 1


def test_look_alikes_are_other_squares_of_that_colour_and_never_the_drawn_one(untrained):
    tile, squares = next((tile, boxes) for tile, boxes in every_tile(untrained) if (np.bincount(boxes.labels) >= 3).any())
    label = int(np.bincount(squares.labels).argmax())
    drawn, *others = squares.xyxy[squares.labels == label].tolist()
    found = TileSuggestions(untrained, SuggestConfig.from_mapping(CLOSE)).look_alikes(tile.id, Boxes([drawn], [1 - label]))
    assert found.model == "pretrained"
    assert set(found.boxes_tile.labels.tolist()) == {1 - label}, "the class that was drawn, whatever the tile's labels say"
    assert box_iou(found.boxes_tile.xyxy, np.array([drawn])).max() < 0.3
    middle_x, middle_y = (drawn[0] + drawn[2]) / 2, (drawn[1] + drawn[3]) / 2
    assert not any(x1 < middle_x < x2 and y1 < middle_y < y2 for x1, y1, x2, y2 in found.boxes_tile.xyxy.tolist())
    middle = found.boxes_tile.xyxy[: len(others)].reshape(-1, 2, 2).mean(1)
    assert all(any(x1 < x < x2 and y1 < y < y2 for x1, y1, x2, y2 in others) for x, y in middle)
    assert (np.diff(found.boxes_tile.scores) <= 0).all()


def every_tile(workspace):
    with workspace.session(write=False) as session:
        known = tiles(session)
        boxes = tile_boxes(session, known)
    return [(tile, boxes[tile.id]) for tile in known]


def test_several_drawn_boxes_are_asked_for_together(untrained):
    tile, squares = next((tile, boxes) for tile, boxes in every_tile(untrained) if len(set(boxes.labels.tolist())) == 2)
    one_each = [int(np.flatnonzero(squares.labels == label)[0]) for label in (0, 1)]
    found = TileSuggestions(untrained, SuggestConfig.from_mapping(CLOSE)).look_alikes(tile.id, squares.take(np.array(one_each)))
    assert set(found.boxes_tile.labels.tolist()) == {0, 1}
    overlap = box_iou(found.boxes_tile.xyxy, found.boxes_tile.xyxy) - np.eye(len(found.boxes_tile))
    assert overlap.max(initial=0) < 0.4


def test_a_threshold_leaves_out_what_is_less_alike(untrained):
    tile, squares = first_tile(untrained)
    drawn = squares.take(np.array([0]))
    counts = [
        len(TileSuggestions(untrained, SuggestConfig.from_mapping(CLOSE | {"likeness": least})).look_alikes(tile.id, drawn).boxes_tile)
        for least in (0.0, 0.5, 1.0)
    ]
    assert counts[0] >= counts[1] >= counts[2] == 0
    assert counts[0] > 0


def test_the_newest_one_shot_model_is_asked_itself(untrained, squares, tmp_path):
    shutil.copytree(untrained.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        add(workspace, squares, "asked", "one-shot", one_shot=True)
        add(workspace, squares, "pretrained-again", "pretrain")
        tile, known = first_tile(workspace)
        found = TileSuggestions(workspace, SuggestConfig(asked_score=0.0, patch_size=32)).look_alikes(tile.id, known.take(np.array([0])))
    assert found.model == "asked"
    assert len(found.boxes_tile) > 0
    assert torch.tensor(found.boxes_tile.scores).diff().le(0).all()


def test_nothing_is_written_where_search_keeps_features_but_its_mean_is_used(untrained, tmp_path):
    shutil.copytree(untrained.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        tile, squares = first_tile(workspace)
        search(workspace, SearchConfig(tile=tile.id, box=tuple(squares.xyxy[0].tolist()), patch_size=32, threads=1))
        before = sorted(path.name for path in workspace.predictions.rglob("*"))
        suggestions = TileSuggestions(workspace, SuggestConfig.from_mapping(CLOSE))
        suggestions.look_alikes(tile.id, squares.take(np.array([0])))
        assert suggestions._kept["asked"].centre is not None
        assert sorted(path.name for path in workspace.predictions.rglob("*")) == before


def test_a_damaged_model_is_refused(untrained, tmp_path):
    shutil.copytree(untrained.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        (model_directory(workspace, "pretrained") / "config.json").write_text("{}")
        tile, squares = first_tile(workspace)
        with pytest.raises(CheckpointRefused):
            TileSuggestions(workspace).look_alikes(tile.id, squares)


def test_without_any_model_it_is_said_what_to_make(fake, squares, tmp_path):
    with Workspace.create(tmp_path / "workspace") as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
        tile, boxes = first_tile(workspace)
        with pytest.raises(BadInput, match="no trained model"):
            TileSuggestions(workspace).look_alikes(tile.id, boxes)


def test_it_answers_while_a_job_holds_the_workspace(untrained):
    tile, _ = first_tile(untrained)
    with untrained.worker_lock("finetune"):
        assert list(TileSuggestions(untrained).on_tiles([tile.id])) == [tile.id]

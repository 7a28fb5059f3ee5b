"""predict: a model's answers on a split, kept as a set."""

import shutil

import numpy as np
import pytest
from sqlalchemy import delete

from engine.catalog.annotations import set_label_set
from engine.catalog.ledger import events
from engine.catalog.models import model_directory
from engine.catalog.predictions import get_prediction_set, predictions_directory
from engine.catalog.schema import LabelSetRow
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, CheckpointRefused, LabelSetMismatch, NothingToDo
from engine.inference.predictions import Predictions
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain


@pytest.fixture
def copy(learned, tmp_path):
    """The trained workspace, to be harmed."""
    shutil.copytree(learned.workspace.root, tmp_path / "workspace")
    with Workspace.open(tmp_path / "workspace") as workspace:
        yield workspace


def test_the_set_covers_the_split_and_is_as_reported(learned):
    workspace = learned.workspace
    report = predict(workspace, PredictConfig(split="test", name="said", threads=1))
    found = Predictions.load(predictions_directory(workspace, "said"))
    with workspace.session(write=False) as session:
        wanted = [tile.id for tile in tiles(session, split="test")]
        row = get_prediction_set(session, "said")
        event = events(session, "predict")[-1]
    assert (report.predictions, report.model, report.split, report.tiles) == ("said", learned.tuned.model, "test", 2)
    assert found.tile_ids.tolist() == wanted
    assert report.boxes == len(found.tile_index) == event.details["boxes"] > 0
    assert (row.tiles, found.scores.min() >= 0.01) == (2, True)


@pytest.mark.parametrize(("split", "count"), [("train", 4), ("dev", 1), ("test", 2), ("all", 7)])
def test_splits(learned, split, count):
    report = predict(learned.workspace, PredictConfig(split=split, threads=1))
    assert (report.tiles, report.predictions) == (count, f"{learned.tuned.model}-{split}")


def test_a_pre_trained_model_gives_embeddings_and_no_boxes(learned):
    report = predict(learned.workspace, PredictConfig(model=learned.pretrained.model, threads=1))
    found = Predictions.load(predictions_directory(learned.workspace, report.predictions))
    assert (report.boxes, report.tiles, len(found.tile_index)) == (0, 7, 0)
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)


def test_a_model_that_learned_regions_speaks_of_no_class(copy, squares):
    regions = {"taught": "clusters", "clusters": 3, "crop": 32, "proposals": {"boxes": 8, "grid": 64, "colours": [2, 3], "least_cells": 6}}
    config = {"schedule": squares.schedule(images_seen=4).model_dump(), "detector": squares.TINY.model_dump()}
    learned = pretrain(copy, PretrainConfig.from_mapping(config | {"patches": None, "regions": regions, "freeze_backbone": False}))
    report = predict(copy, PredictConfig(model=learned.model, threads=1))
    found = Predictions.load(predictions_directory(copy, report.predictions))
    assert (report.boxes, len(found.tile_index)) == (0, 0)
    assert np.allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)


def test_batch_size_does_not_change_what_is_said(learned):
    sets = [predict(learned.workspace, PredictConfig(batch_size=size, name=f"batch-{size}", threads=1)) for size in (1, 3)]
    one, three = (Predictions.load(predictions_directory(learned.workspace, each.predictions)) for each in sets)
    assert one.tile_index.tolist() == three.tile_index.tolist()
    assert np.allclose(one.boxes_tile, three.boxes_tile, atol=1e-2)


def test_a_cancel_leaves_the_older_set(copy):
    def stop(done, total, message):
        raise Cancelled("stopped")

    before = predict(copy, PredictConfig(name="said", split="dev", threads=1))
    with pytest.raises(Cancelled):
        predict(copy, PredictConfig(name="said", split="test", threads=1), progress=stop)
    assert len(Predictions.load(predictions_directory(copy, "said"))) == before.tiles


@pytest.mark.guarantee("G31")
def test_a_model_of_other_classes_is_refused_by_name(copy):
    with copy.session() as session:
        session.execute(delete(LabelSetRow))
        set_label_set(session, ["red", "blue"])
    with pytest.raises(LabelSetMismatch, match=r"lacks \['blue'\].*\['green'\] in addition"):
        predict(copy, PredictConfig(threads=1))


@pytest.mark.guarantee("G31")
def test_a_damaged_model_is_refused(copy, learned):
    path = model_directory(copy, learned.tuned.model) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointRefused, match="sha256 differs"):
        predict(copy, PredictConfig(threads=1))


@pytest.mark.parametrize("name", ["../said", "a/b", "."])
def test_a_name_that_cannot_be_a_folder_is_refused_before_anything_is_predicted(learned, name):
    with pytest.raises(BadInput, match="of predictions"):
        predict(learned.workspace, PredictConfig(name=name), progress=lambda *call: pytest.fail("predicted"))


def test_no_model_or_no_tile(squares, fake, tmp_path, learned):
    with Workspace.create(tmp_path / "workspace") as workspace:
        squares.fill(workspace, fake("catalog").add_scene)
        with pytest.raises(BadInput, match="no trained model"):
            predict(workspace, PredictConfig())
    with pytest.raises(BadInput, match=r"no trained model named 'x'"):
        predict(learned.workspace, PredictConfig(model="x"))


def test_a_split_without_a_tile_is_nothing_to_do(copy):
    from engine.catalog.schema import Review, Tile

    with copy.session() as session:
        gone = [tile.id for tile in tiles(session, split="dev")]
        session.execute(delete(Review).where(Review.tile_id.in_(gone)))
        session.execute(delete(Tile).where(Tile.id.in_(gone)))
    with pytest.raises(NothingToDo, match="no tile in the split 'dev'"):
        predict(copy, PredictConfig(split="dev"))

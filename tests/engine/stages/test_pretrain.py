"""pretrain: on the training ground alone, labelled or not."""

import pytest
from sqlalchemy import select

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.models import model_directory
from engine.catalog.schema import Scene
from engine.catalog.tiles import scene_file, tiles
from engine.catalog.workspace import Workspace
from engine.errors import NothingToDo, UsageError
from engine.models.store import read_model
from engine.stages.pretrain import PretrainConfig, pretrain


@pytest.fixture
def config(squares):
    return PretrainConfig(schedule=squares.schedule(images_seen=4), patches=squares.PATCHES, detector=squares.TINY)


@pytest.fixture
def workspace(squares, fake, tmp_path):
    """Nothing in it is labelled."""
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene, labelled=False)
        yield made


def weights(workspace, report):
    return (model_directory(workspace, report.model) / "model.safetensors").read_bytes()


def test_no_label_is_needed_and_the_model_speaks_no_class(workspace, config):
    report = pretrain(workspace, config)
    stored = read_model(model_directory(workspace, report.model))
    assert (report.stage, report.start, report.tiles, report.boxes, report.images_seen) == ("pretrain", None, 4, 0, 4)
    assert (stored.stage, len(stored.label_set), stored.config) == ("pretrain", 0, config.detector)
    assert not list(workspace.checkpoints.iterdir())
    with workspace.session(write=False) as session:
        [event] = events(session, "pretrain")
    assert event.details["model"] == report.model


def test_dev_and_test_ground_are_never_seen(workspace, config):
    """Their rasters are gone, and the run is the same to the bit."""
    whole = pretrain(workspace, config)
    with workspace.session() as session:
        for scene in session.scalars(select(Scene).where(Scene.split != "train")):
            scene_file(workspace, scene).unlink()
    again = pretrain(workspace, config.model_copy(update={"name": "again"}))
    assert (again.already_there, again.tiles) == (False, 4)
    assert weights(workspace, again) == weights(workspace, whole)


def test_reviews_change_nothing(workspace, config):
    first = pretrain(workspace, config)
    with workspace.session() as session:
        mark_reviewed(session, [tile.id for tile in tiles(session)][:2], by="somebody")
    assert pretrain(workspace, config).model == first.model


def test_another_configuration_is_another_model(workspace, config):
    other = config.model_copy(update={"schedule": config.schedule.model_copy(update={"seed": 1})})
    assert pretrain(workspace, config).model != pretrain(workspace, other).model


def test_no_tile_of_the_training_ground_is_nothing_to_do(squares, fake, tmp_path, config):
    with Workspace.create(tmp_path / "empty") as workspace:
        with pytest.raises(NothingToDo, match="tilehawk ingest"):
            pretrain(workspace, config)
        squares.fill(workspace, fake("catalog").add_scene, labelled=False, scenes=squares.SCENES[2:])
        with pytest.raises(NothingToDo, match="no tile of the training ground"):
            pretrain(workspace, config)


def test_patches_that_do_not_divide_the_slots_are_refused(workspace, config):
    odd = config.model_copy(update={"patches": config.patches.model_copy(update={"patches": 3})})
    with pytest.raises(UsageError, match=r"patches.patches = 3 with detector.patch_slots = 20"):
        pretrain(workspace, odd)

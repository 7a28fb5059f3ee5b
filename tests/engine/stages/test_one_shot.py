"""one-shot: a model that is asked by boxes, from the labelled tiles."""

import shutil

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from sqlalchemy import delete

from engine.catalog.annotations import tile_boxes
from engine.catalog.models import get_model, model_directory
from engine.catalog.schema import Review
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import Cancelled, NothingToDo, UsageError
from engine.models.store import load_detector, read_model
from engine.pretext.regions import RegionConfig
from engine.stages.finetune import FinetuneConfig, finetune
from engine.stages.one_shot import OneShotTrainingConfig, one_shot
from engine.stages.predict import PredictConfig, predict
from engine.stages.pretrain import PretrainConfig, pretrain
from engine.training.journal import LOG_NAME, read_log
from engine.training.one_shot import OneShotConfig

LOOK_ALIKES = {
    "taught": "look-alikes",
    "clusters": 3,
    "crop": 32,
    "proposals": {"boxes": 8, "grid": 64, "colours": [2, 3], "least_cells": 6},
    "asked": {"patch_size": 32},
}


@pytest.fixture
def config(squares):
    asked = OneShotConfig(patch_size=32)
    schedule = squares.schedule(images_seen=4)
    return OneShotTrainingConfig(schedule=schedule, detector=squares.TINY, asked=asked, start="scratch", look_alikes=None)


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


def weights(workspace, report):
    return load_file(model_directory(workspace, report.model) / "model.safetensors")


def test_the_model_is_asked_and_knows_no_class_of_the_workspace(workspace, config):
    report = one_shot(workspace, config)
    stored = read_model(model_directory(workspace, report.model))
    assert (report.stage, report.start, report.tiles, report.images_seen) == ("one-shot", None, 4, 4)
    assert report.boxes > 0
    assert (stored.stage, stored.label_set.names, stored.config.one_shot) == ("one-shot", ("look-alike",), True)
    with workspace.session(write=False) as session:
        assert get_model(session, report.model).label_set_fingerprint is None
    model, _ = load_detector(stored.directory)
    assert model.condition.patch.weight.shape[0] == config.detector.dimension


def test_a_stopped_run_goes_on(workspace, config, stop_at, squares):
    config = config.model_copy(update={"schedule": squares.schedule(images_seen=12)})
    with pytest.raises(Cancelled):
        one_shot(workspace, config, progress=stop_at(6))
    report = one_shot(workspace, config)
    assert report.resumed_at_step == 3
    assert one_shot(workspace, config).already_there


def test_what_look_alikes_taught_is_all_taken_over(workspace, config, squares):
    learned = pretrain(
        workspace,
        PretrainConfig.from_mapping(
            {
                "schedule": squares.schedule(images_seen=4).model_dump(),
                "detector": squares.TINY.model_dump(),
                "patches": None,
                "regions": LOOK_ALIKES,
                "freeze_backbone": False,
            }
        ),
    )
    assert read_model(model_directory(workspace, learned.model)).config.one_shot
    short = squares.schedule(images_seen=2, learning_rate=1e-12, backbone_learning_rate=1e-12, weight_decay=0.0)
    report = one_shot(workspace, config.model_copy(update={"start": None, "schedule": short}))
    assert report.start == learned.model
    before, after = weights(workspace, learned), weights(workspace, report)
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-5) for name in before)


def stopped_after_a_step(_done, _total, message):
    if "images/s" in message:
        raise Cancelled("stopped")


def test_regions_of_unlabelled_tiles_are_asked_for_beside_the_labels(workspace, config):
    with workspace.session() as session:
        known = tiles(session, split="train")
        session.execute(delete(Review).where(Review.tile_id.in_([tile.id for tile in known[2:]])))
    beside = config.model_copy(update={"look_alikes": RegionConfig.from_mapping(LOOK_ALIKES | {"tiles": 3}), "look_alikes_share": 0.5})
    with pytest.raises(Cancelled):
        one_shot(workspace, beside, progress=stopped_after_a_step)
    report = one_shot(workspace, beside)
    assert (report.tiles, report.images_seen, report.resumed_at_step) == (2, 4, 1)
    [folder] = (workspace.reports / "training").glob("one-shot-*")
    log = read_log(folder / LOG_NAME)
    assert sum(float(row["loss.look-alikes.sought"]) for row in log) > 0
    alone = one_shot(workspace, config.model_copy(update={"name": "alone"}))
    assert any(not torch.equal(a, b) for a, b in zip(weights(workspace, report).values(), weights(workspace, alone).values(), strict=True))


def test_pictures_of_what_is_asked_change_nothing_of_the_run(workspace, config):
    beside = config.model_copy(update={"look_alikes": RegionConfig.from_mapping(LOOK_ALIKES), "name": "watched", "pictures_every": 2})
    watched = one_shot(workspace, beside)
    [folder] = (workspace.reports / "training").glob("one-shot-*/pictures")
    names = sorted(path.name for path in folder.iterdir())
    assert names == [f"{kind}-{seen:08d}.png" for kind in ("asked", "regions") for seen in (2, 4)]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert before["asked-00000002.png"] != before["regions-00000002.png"]
    shutil.rmtree(folder)
    shutil.rmtree(model_directory(workspace, "watched"))
    plain = one_shot(workspace, beside.model_copy(update={"pictures_every": 0}))
    assert not folder.exists()
    assert (plain.already_there, plain.log) == (False, watched.log)
    assert (plain.first_loss, plain.last_loss) == (watched.first_loss, watched.last_loss)
    shutil.rmtree(model_directory(workspace, "watched"))
    one_shot(workspace, beside)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_regions_are_described_by_the_model_to_start_from_where_the_backbone_has_no_weights(workspace, config, squares):
    beside = config.model_copy(update={"look_alikes": RegionConfig.from_mapping(LOOK_ALIKES)})
    for name, seed in (("first", 1), ("second", 2)):
        untaught = squares.schedule(images_seen=2, seed=seed)
        taught = PretrainConfig(name=name, schedule=untaught, detector=squares.TINY, patches=squares.PATCHES, freeze_backbone=False)
        pretrain(workspace, taught)
        with pytest.raises(Cancelled):
            one_shot(workspace, beside.model_copy(update={"start": name}), progress=stopped_after_a_step)
    assert len(list((workspace.checkpoints / "regions").glob("*.safetensors"))) == 2


def test_regions_that_nobody_is_asked_for_are_refused():
    with pytest.raises(ValidationError, match="expected 'look-alikes'"):
        OneShotTrainingConfig(look_alikes=RegionConfig(taught="clusters"))


def test_a_detector_of_classes_and_one_that_is_asked_share_what_knows_neither(workspace, config, squares):
    asked = one_shot(workspace, config)
    plain = FinetuneConfig(schedule=squares.schedule(images_seen=2), detector=squares.TINY, start=asked.model)
    tuned = finetune(workspace, plain)
    stored = read_model(model_directory(workspace, tuned.model))
    assert (stored.config.one_shot, len(stored.label_set)) == (False, 2)
    back = one_shot(workspace, config.model_copy(update={"start": tuned.model, "name": "back"}))
    assert read_model(model_directory(workspace, back.model)).config.one_shot


def test_what_has_no_class_is_not_the_newest_detector(workspace, config, squares):
    plain = FinetuneConfig(schedule=squares.schedule(images_seen=2), detector=squares.TINY, start="scratch")
    tuned = finetune(workspace, plain)
    asked = one_shot(workspace, config)
    assert predict(workspace, PredictConfig(threads=1)).model == tuned.model
    assert predict(workspace, PredictConfig(model=asked.model, threads=1)).boxes == 0


def test_only_what_teaches_a_detector_to_be_asked_may_make_one(workspace, squares):
    detector = squares.TINY.model_copy(update={"one_shot": True})
    schedule = squares.schedule(images_seen=2)
    with pytest.raises(UsageError, match="nothing that teaches it"):
        pretrain(workspace, PretrainConfig(schedule=schedule, detector=detector, patches=squares.PATCHES, freeze_backbone=False))
    with pytest.raises(UsageError, match="a detector of known classes"):
        finetune(workspace, FinetuneConfig(schedule=schedule, detector=detector, start="scratch"))


def test_a_detector_of_classes_may_start_from_look_alikes(workspace, config, squares):
    taught = {"schedule": squares.schedule(images_seen=2).model_dump(), "detector": squares.TINY.model_dump(), "patches": None}
    learned = pretrain(workspace, PretrainConfig.from_mapping(taught | {"regions": LOOK_ALIKES, "freeze_backbone": False}))
    tuned = finetune(workspace, FinetuneConfig(schedule=squares.schedule(images_seen=2)))
    assert tuned.start == learned.model
    assert not read_model(model_directory(workspace, tuned.model)).config.one_shot


def test_tiles_that_show_a_class_that_is_left_out_count_as_unlabelled(workspace, config):
    with workspace.session(write=False) as session:
        records = tiles(session, split="train")
        boxes = tile_boxes(session, records)
    green = [tile.id for tile in records if 0 not in boxes[tile.id].labels]
    assert 0 < len(green) < len(records)
    report = one_shot(workspace, config.model_copy(update={"leave_out": ("red",)}))
    assert (report.tiles, report.boxes) == (len(green), sum(len(boxes[tile]) for tile in green))
    with workspace.session(write=False) as session:
        assert get_model(session, report.model).config["leave_out"] == ["red"]
    with pytest.raises(NothingToDo, match="each of 4 reviewed tiles of the training ground shows a class of leave_out"):
        one_shot(workspace, config.model_copy(update={"leave_out": ("green",)}))


def test_their_tiles_still_teach_what_no_label_says(workspace, config):
    beside = {"leave_out": ("red",), "look_alikes": RegionConfig.from_mapping(LOOK_ALIKES), "name": "beside"}
    told = []
    one_shot(workspace, config.model_copy(update=beside), progress=lambda done, total, message: told.append((total, message)))
    assert {total for total, message in told if message == "proposing regions"} == {4}
    assert {total for total, message in told if message == "reading objects to ask for"} == {1, 4}


@pytest.mark.parametrize("names", [("blue",), ("red", "blue"), ("red", "green"), ("green", "red", "red")])
def test_only_some_of_the_classes_that_there_are_can_be_left_out(workspace, config, names):
    with pytest.raises(UsageError, match=r"expected some of \['red', 'green'\]"):
        one_shot(workspace, config.model_copy(update={"leave_out": names}))


def test_what_is_left_out_must_be_unknown_to_all_that_came_before(workspace, config, squares):
    tuned = finetune(workspace, FinetuneConfig(schedule=squares.schedule(images_seen=2), detector=squares.TINY, start="scratch"))
    without = config.model_copy(update={"leave_out": ("red",), "name": "without"})
    knows = one_shot(workspace, config.model_copy(update={"start": tuned.model, "name": "knows"}))
    for start in (tuned.model, knows.model):
        with pytest.raises(UsageError, match=rf"the start '{start}': .*learned labels of \['red'\]"):
            one_shot(workspace, without.model_copy(update={"start": start}))
    one_shot(workspace, without)
    again = one_shot(workspace, without.model_copy(update={"start": "without", "name": "again"}))
    assert again.start == "without"
    with pytest.raises(UsageError, match=r"the start 'again': .*learned labels of \['green'\]"):
        one_shot(workspace, without.model_copy(update={"start": "again", "leave_out": ("green",), "name": "other"}))


def test_without_reviews_or_with_a_dev_ap_it_is_refused(workspace, config, squares):
    schedule = squares.schedule(images_seen=4, evaluate_every=2)
    with pytest.raises(UsageError, match="evaluate_every = 2"):
        one_shot(workspace, config.model_copy(update={"schedule": schedule}))
    with workspace.session() as session:
        session.execute(delete(Review).where(Review.tile_id.in_([tile.id for tile in tiles(session)])))
    with pytest.raises(NothingToDo, match="no tile of the training ground is reviewed"):
        one_shot(workspace, config)

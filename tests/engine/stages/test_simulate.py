"""simulate: strategies replayed on a workspace's own labels, and nothing of the workspace changed."""

import dataclasses
import json

import pytest
from safetensors.torch import load_file
from sqlalchemy import delete

from engine.catalog import ledger
from engine.catalog.annotations import mark_reviewed, scene_boxes, tile_boxes
from engine.catalog.ledger import events
from engine.catalog.models import models
from engine.catalog.rounds import rounds
from engine.catalog.schema import Review, Tile
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.errors import Cancelled, NothingToDo, UsageError
from engine.simulation.replay import ReplayConfig
from engine.stages.simulate import ReplayScheduleConfig, SimulateConfig, simulate


@pytest.fixture
def squares(fake):
    return fake("squares")


@pytest.fixture
def workspace(squares, fake, tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        squares.fill(made, fake("catalog").add_scene)
        yield made


def looking(squares, **changes):
    """The schedule of a round; a tile is looked at three times."""
    return ReplayScheduleConfig(**squares.schedule(**changes).model_dump() | {"passes": 3.0})


@pytest.fixture
def config(squares):
    return SimulateConfig(
        strategies=("tilehawk",),
        seeds=(0,),
        replay=ReplayConfig(start=110, budgets=(110,), noise=0.0),
        schedule=looking(squares, images_seen=4),
        detector=squares.TINY,
    )


def test_strategies_are_held_against_chance_on_the_labels_that_are_there(workspace, config):
    told = []
    report = simulate(workspace, config, progress=lambda done, total, message: told.append(message))
    assert {each.strategy for each in report.strategies} == {"tilehawk", "random"}
    assert (report.tiles, report.measured_on, report.replays) == (4, 1, 2)
    assert report.by_chance == 0, "nobody knows where the labels came from"
    assert report.caution.startswith("of the 4 labelled tiles 0 are known")
    assert report.best is None, "one seed"
    assert list(report.ratio_at) == ["7 s a box", "15 s a box", "35 s a box"]
    assert {(each.share, each.strategy) for each in report.to_share} == {(s, n) for s in ("80%", "90%") for n in ("random", "tilehawk")}
    kept = json.loads((workspace.root / report.comparison).read_text())
    assert kept["best"] is None
    assert kept["full_ap50"] == report.all_labels_ap50
    assert (kept["by_chance"], kept["caution"]) == (0, report.caution)
    for axis in kept["axes"].values():
        assert len(axis["grid"]) == len(axis["mean"]["tilehawk"]) == len(axis["interval"]["random"])
    assert list(report.ratio_in) == list(kept["axes"]) == ["seconds", "boxes", "tiles"]
    assert kept["to_share"]["80%"]["random"]["short"] in (0, 1)
    assert 0 <= report.control_ap50 <= 1
    assert report.all_labels_ap50 is not None
    assert (report.all_labels_looks, report.shares_left_out) == (3.0, None)
    learned = json.loads((workspace.root / report.file / "tilehawk-0.json").read_text())["rounds"]
    assert all(3 <= each["looks"] <= 4 for each in learned), "four images at least, two a step"
    for picture in (report.picture, report.seeds_picture):
        assert (workspace.root / picture).read_bytes()[:4] == b"\x89PNG"
    found = json.loads((workspace.root / report.file / "tilehawk-0.json").read_text())
    assert [each["round"] for each in found["rounds"]] == [0, 1]
    assert any(message.startswith("replay 1 of 2, random 0: ") for message in told)
    kept = {path.name.split(".")[0] for path in (workspace.root / report.file / "models").iterdir()}
    assert kept == {"start-0", "all-0"}
    with workspace.session(write=False) as session:
        assert models(session) == []
        assert rounds(session) == []
        assert len(tiles(session, reviewed=True)) == 7
        assert len(events(session, "simulate")) == 1


def test_shares_of_labels_that_were_hardly_looked_at_are_left_out(workspace, config):
    hasty = config.schedule.model_copy(update={"passes": 0.0})
    report = simulate(workspace, config.model_copy(update={"schedule": hasty}))
    assert (report.all_labels_looks, report.to_share) == (1.0, ())
    assert "each of them 1.0 times" in report.shares_left_out
    kept = json.loads((workspace.root / report.comparison).read_text())
    assert (kept["shares_left_out"], kept["to_share"]) == (report.shares_left_out, {})


def test_a_schedule_that_is_stated_in_part_keeps_its_looks():
    stated = SimulateConfig.from_mapping({"schedule": {"images_seen": 2000}}).schedule
    assert (stated.images_seen, stated.passes) == (2000, 4.0)
    assert stated.over(3344).images_seen == 4 * 3344


def test_what_was_stopped_goes_on_and_what_is_done_is_not_done_again(workspace, config):
    def stop(done, total, message):
        if "replay 2 of 2" in message:
            raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        simulate(workspace, config, progress=stop)
    told = []
    report = simulate(workspace, config, progress=lambda done, total, message: told.append(message))
    assert not any(message.startswith("replay 1 of 2") for message in told)
    told.clear()
    with workspace.session() as session:
        ledger.record(session, "labels", source="truth.json")
    again = simulate(workspace, config, progress=lambda done, total, message: told.append(message))
    assert told == []
    assert again == dataclasses.replace(report, by_chance=4, caution=None)
    more = simulate(workspace, config.model_copy(update={"strategies": ("k-center",)}))
    assert {each.strategy for each in more.strategies} == {"tilehawk", "random", "k-center"}
    assert more.file == report.file
    assert more.replays == 3
    half = workspace.root / report.file / "k-center-0.json"
    document = json.loads(half.read_text())
    half.write_text(json.dumps(document | {"rounds": document["rounds"][:1]}))
    assert {each.strategy for each in simulate(workspace, config).strategies} == {"tilehawk", "random"}


def test_a_replay_that_ran_out_of_tiles_is_done_and_is_not_asked_for_again(workspace, config):
    config = config.model_copy(update={"replay": ReplayConfig(start=110, budgets=(1e4, 110), noise=0.0)})
    report = simulate(workspace, config)
    found = json.loads((workspace.root / report.file / "random-0.json").read_text())
    assert (len(found["rounds"]), found["ended"]) == (2, True)
    assert simulate(workspace, config) == report


def test_a_seed_has_first_weights_and_an_order_of_training_of_its_own(workspace, config, squares):
    still = looking(squares, images_seen=4, learning_rate=1e-12, backbone_learning_rate=0.0, seed=3)
    every = ReplayConfig(start=1e5, budgets=(), noise=0.0)
    report = simulate(workspace, config.model_copy(update={"seeds": (0, 1), "schedule": still, "replay": every}))
    models = workspace.root / report.file / "models"
    assert [json.loads((models / f"{name}.json").read_text())["seed"] for name in ("start-0", "start-1", "all-0")] == [3, 4, 3]
    one, other, every_label = (load_file(models / f"{name}.safetensors") for name in ("start-0", "start-1", "all-0"))
    drawn = [name for name in one if not name.startswith("backbone.") and one[name].dim() > 1]
    assert drawn
    assert any((one[name] - other[name]).abs().max() > 1e-3 for name in drawn)
    assert all((one[name] - every_label[name]).abs().max() < 1e-6 for name in drawn), "of one seed"


def test_an_object_that_two_tiles_show_is_one(workspace, config):
    with workspace.session() as session:
        train = tiles(session, split="train")
        known = sum(len(scene_boxes(session, scene)) for scene in {tile.scene_id for tile in train})
        lapping = Tile(scene_id=train[0].scene_id, x=32, y=0, width=64, height=64, content_hash="1" * 64, split="train")
        session.add(lapping)
        session.flush()
        mark_reviewed(session, [lapping.id], by="truth.json")
        shown = sum(len(boxes) for boxes in tile_boxes(session, tiles(session, split="train")).values())
    report = simulate(workspace, config)
    assert (report.tiles, report.boxes) == (5, known)
    assert shown > known
    drawn = json.loads((workspace.root / report.file / "all-0.json").read_text())
    prices = config.replay.selection.prices
    assert drawn["seconds"] == 5 * prices.open + known * prices.draw + (shown - known) * prices.verify


def test_too_few_labels_are_refused_by_ground(workspace, config):
    with workspace.session() as session:
        dev = [tile.id for tile in tiles(session, split="dev")]
        session.execute(delete(Review).where(Review.tile_id.in_(dev)))
    with pytest.raises(NothingToDo, match="0 tiles of dev ground are reviewed"):
        simulate(workspace, config)
    with workspace.session() as session:
        session.execute(delete(Review))
        mark_reviewed(session, dev, by="somebody")
    with pytest.raises(NothingToDo, match="0 tiles of train ground are reviewed"):
        simulate(workspace, config)


@pytest.mark.parametrize("values", [{"strategies": ["guess"]}, {"seeds": []}, {"seeds": [1, 1]}, {"seeds": [0, -1]}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(UsageError):
        SimulateConfig.from_mapping(values)

"""rank: a round is written whole, from predictions and accepted labels alone."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sqlalchemy import delete, update

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.predictions import predictions_directory
from engine.catalog.rounds import get_round, round_tiles, rounds, stored_why_cold
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, NothingToDo, UsageError
from engine.stages.rank import RankConfig, RankReport, rank

Fake = Callable[[str], ModuleType]


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def test_the_round_is_written_as_it_is_reported(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "first")
    report = rank(workspace, RankConfig(budget_seconds=60, seed=4))
    with workspace.session() as session:
        row = get_round(session)
        links = round_tiles(session, row)
        [event] = events(session, "rank")
    assert (row.number, row.budget_seconds, row.seed, row.state, row.strategy) == (1, 60, 4, "ranked", "tilehawk")
    assert [(link.tile_id, link.score, link.estimated_seconds) for link in links] == [
        (tile.tile_id, tile.score, tile.estimated_seconds) for tile in report.tiles
    ]
    assert [link.reasons for link in links] == [{**tile.reasons, "why": tile.why} for tile in report.tiles]
    assert row.estimated_seconds == pytest.approx(report.estimated_seconds)
    assert 0 < report.estimated_seconds <= 60
    assert report.predictions == event.details["predictions"] == "first"
    assert event.details["config"]["budget_seconds"] == 60
    json.dumps(asdict(report), allow_nan=False)


@pytest.mark.parametrize("strategy", ["tilehawk", "k-center", "typiclust", "prob-cover", "entropy-mean", "ppal", "random"])
def test_withheld_labels_do_not_change_the_ranking(workspace: Workspace, fake: Fake, strategy: str) -> None:
    fake("labelled").predict(workspace, "first", score=0.5, keep=0.6)
    config = RankConfig(budget_seconds=120, strategy=strategy, waiting_too=True)
    before = rank(workspace, config)
    with workspace.session() as session:
        session.execute(update(Annotation).where(Annotation.state == "withheld").values(x1=1.0, y1=1.0, x2=9.0, y2=9.0, label=0))
        session.execute(delete(Annotation).where(Annotation.state == "withheld", Annotation.id % 2 == 0))
    after = rank(workspace, config)
    assert after.tiles == before.tiles
    assert after.round == before.round + 1


@pytest.mark.guarantee("G42")
def test_neither_reviewed_nor_test_tiles_are_ranked(workspace: Workspace, fake: Fake) -> None:
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    fake("labelled").predict(workspace, "first")
    with workspace.session() as session:
        mark_reviewed(session, train[:5], by="somebody")
    report = rank(workspace, RankConfig(budget_seconds=1e6))
    assert sorted(tile.tile_id for tile in report.tiles) == train[5:]


def test_the_newest_predictions_that_cover_the_open_tiles_are_taken(workspace: Workspace, fake: Fake) -> None:
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    for name, only in (("old", train), ("new", train), ("half", train[:7])):
        fake("labelled").predict(workspace, name, only=only)
    again = {"budget_seconds": 100, "waiting_too": True}
    assert rank(workspace, RankConfig(**again)).predictions == "new"
    assert rank(workspace, RankConfig(**again, predictions="old")).predictions == "old"
    with pytest.raises(BadInput, match=rf"'half' lack 9 of 16 train tiles, the first being tile {train[7]}.*tilehawk predict"):
        rank(workspace, RankConfig(**again, predictions="half"))
    with pytest.raises(BadInput, match=r"no predictions named 'neu'.*'new'"):
        rank(workspace, RankConfig(**again, predictions="neu"))
    with workspace.session() as session:
        mark_reviewed(session, train[7:], by="somebody")
    assert rank(workspace, RankConfig(budget_seconds=40, waiting_too=True)).predictions == "half"


def test_tiles_that_wait_in_an_open_round_are_not_chosen_again(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "first")
    told: list[str] = []
    first = rank(workspace, RankConfig(budget_seconds=60))
    second = rank(workspace, RankConfig(budget_seconds=60), progress=lambda done, total, message: told.append(message))
    waits = len(first.tiles)
    assert waits
    assert second.tiles
    assert not {tile.tile_id for tile in first.tiles} & {tile.tile_id for tile in second.tiles}
    assert (first.left_out, second.left_out) == (0, waits)
    assert f"{waits} tiles are left out: {waits} wait in round 1" in told
    rest = rank(workspace, RankConfig(budget_seconds=1e6))
    assert len(first.tiles) + len(second.tiles) + len(rest.tiles) == 16
    with pytest.raises(NothingToDo, match=rf"16 tiles are left out: {waits} wait in round 1, .*in round 3.*waiting_too=true"):
        rank(workspace, RankConfig(budget_seconds=60))
    assert rank(workspace, RankConfig(budget_seconds=60, waiting_too=True)).tiles == first.tiles


def test_a_round_without_a_tile_drawn_at_random_says_so(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "first")
    told: list[str] = []

    def tell(done: int, total: int, message: str) -> None:
        told.append(message)

    rank(workspace, RankConfig(budget_seconds=200, audit_share=0.5, waiting_too=True), progress=tell)
    assert not any("no tile was drawn at random" in each for each in told)
    rank(workspace, RankConfig(budget_seconds=200, audit_share=0, waiting_too=True), progress=tell)
    assert any("no tile was drawn at random" in each for each in told)


def test_what_shows_mostly_the_ground_of_waiting_tiles_waits_too(tmp_path: Path, fake: Fake) -> None:
    with Workspace.create(tmp_path / "overlapping") as workspace:
        fake("labelled").fill(workspace, fake("catalog").add_scene, overlap=24)
        records = {tile.id: tile.window for tile in fake("labelled").records(workspace, "train")}
        scene = {tile.id: tile.scene_id for tile in fake("labelled").records(workspace, "train")}
        fake("labelled").predict(workspace, "first")
        first, second = (rank(workspace, RankConfig(budget_seconds=60)) for _ in range(2))
    assert second.left_out > len(first.tiles)
    for one in first.tiles:
        for other in second.tiles:
            if scene[one.tile_id] == scene[other.tile_id]:
                assert abs(records[one.tile_id].x - records[other.tile_id].x) + abs(records[one.tile_id].y - records[other.tile_id].y) > 8


def test_a_pretrained_model_lends_its_embeddings_but_its_boxes_do_not_count(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "unlabelled", stage="pretrain", fingerprint=None)
    report = rank(workspace, RankConfig(budget_seconds=220))
    assert [tile.reasons["objects_seen"] for tile in report.tiles] == [None, None]
    assert [tile.estimated_seconds for tile in report.tiles] == [100, 100]
    assert all(tile.reasons["weights"]["coverage"] == 1 for tile in report.tiles)


def test_without_any_model_the_round_is_random(workspace: Workspace) -> None:
    report = rank(workspace, RankConfig(budget_seconds=500))
    assert report.predictions is None
    assert len(report.tiles) == 5
    assert {tile.scene for tile in report.tiles} == {"train-0.tif", "train-1.tif"}
    assert all("at random" in tile.why for tile in report.tiles)


def told_by(workspace: Workspace, config: RankConfig) -> tuple[RankReport, list[str], str | None]:
    """The report, what was said meanwhile, and what stands with the round."""
    told: list[str] = []
    report = rank(workspace, config, progress=lambda done, total, message: told.append(message))
    with workspace.session() as session:
        return report, told, stored_why_cold(get_round(session))


def test_a_detector_that_lacks_tiles_is_not_dropped_without_a_word(workspace: Workspace, fake: Fake) -> None:
    again = {"budget_seconds": 300, "waiting_too": True}
    train = [tile.id for tile in fake("labelled").records(workspace, "train")]
    report, told, kept = told_by(workspace, RankConfig(**again, wanted_classes=("car",)))
    assert kept == report.why_cold
    assert report.why_cold in told
    assert report.why_cold == ("no detector has seen the tiles yet: they are drawn at random, and the wanted classes (car) have no say")
    assert report.strategy == "random", "tilehawk had nothing to go by"

    fake("labelled").predict(workspace, "some", only=train[:13])
    report, told, kept = told_by(workspace, RankConfig(**again))
    assert report.predictions is None
    lacking = r"the predictions 'some' of the newest detector lack 3 of 16 tiles \(run `tilehawk predict --split train`\)"
    assert re.fullmatch(rf"{lacking}: they are drawn at random", report.why_cold)
    assert kept == report.why_cold
    assert report.why_cold in told

    fake("labelled").predict(workspace, "whole", stage="pretrain", model="encoder", fingerprint=None)
    report, _, _ = told_by(workspace, RankConfig(**again))
    assert (report.predictions, report.strategy) == ("whole", "tilehawk")
    assert re.fullmatch(
        rf"{lacking}, so 'whole' of a model that knows no classes is used: they are chosen by their embeddings alone", report.why_cold
    )

    fake("labelled").predict(workspace, "all")
    report, told, kept = told_by(workspace, RankConfig(**again))
    assert report.why_cold is kept is None
    assert not any("detector" in each for each in told)


def test_an_older_detector_in_the_place_of_the_newest_is_told_of(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "first", model="old")
    fake("labelled").predict(workspace, "on-test", model="new", split="test")
    report, told, _ = told_by(workspace, RankConfig(budget_seconds=60))
    assert report.predictions == "first"
    assert report.why_cold in told
    assert report.why_cold.startswith("the newest detector 'new' has not looked at the tiles")
    assert report.why_cold.endswith("so 'first' of an older detector is used")
    assert rank(workspace, RankConfig(budget_seconds=60, predictions="first")).why_cold is None, "it was asked for"


@pytest.mark.parametrize("strategy", ["k-center", "random", "ppal"])
def test_wanted_classes_are_refused_where_the_strategy_does_not_weigh_them(strategy: str) -> None:
    with pytest.raises(UsageError, match=rf"\['crane'\] and strategy = '{strategy}', which does not weigh classes.*'tilehawk'"):
        RankConfig.from_mapping({"strategy": strategy, "wanted_classes": ["crane"]})
    assert RankConfig.from_mapping({"wanted_classes": ["crane"]}).wanted_classes == ("crane",)


def test_two_rounds_in_a_row_do_not_look_alike(tmp_path: Path, fake: Fake) -> None:
    with Workspace.create(tmp_path / "pairs") as workspace:
        fake("labelled").fill(workspace, fake("catalog").add_scene)
        made = fake("labelled").predict(workspace, "first", keep=0.0)
        embeddings = np.repeat(np.random.default_rng(0).normal(size=(8, 8)), 2, axis=0)
        dataclasses.replace(made, embeddings=embeddings).save(predictions_directory(workspace, "first"))
        look = dict(zip(made.tile_ids.tolist(), np.repeat(np.arange(8), 2).tolist(), strict=True))
        config = RankConfig(budget_seconds=40, audit_share=0.0, scene_share=1.0, empty_share=1.0)
        first, second = (rank(workspace, config) for _ in range(2))
        waits = sum(len(each.tiles) for each in (first, second))
    assert len(first.tiles) == 4 == waits - 4
    assert len({look[tile.tile_id] for each in (first, second) for tile in each.tiles}) == 8


def test_accepted_labels_on_train_ground_shift_the_weight_to_doubt(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "first", score=0.5)
    config = RankConfig(budget_seconds=60, coverage_boxes_per_class=0, full_boxes_per_class=20)
    assert rank(workspace, config).tiles[0].reasons["weights"]["uncertainty"] == 0
    with workspace.session() as session:
        session.execute(update(Annotation).values(state="accepted"))
        mark_reviewed(session, [tile.id for tile in fake("labelled").records(workspace, "train")][:8], by="somebody")
    assert 0 < rank(workspace, config).tiles[0].reasons["weights"]["uncertainty"] <= 0.7


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (RankConfig(budget_seconds=0), BadInput, "0 seconds"),
        (RankConfig(budget_seconds=-2), BadInput, "-2 seconds"),
        (RankConfig(budget_seconds=99), NothingToDo, r"100\.0 seconds"),
        (RankConfig(strategy="ppal"), BadInput, "tilehawk predict"),
    ],
)
def test_what_cannot_be_ranked_leaves_nothing_behind(workspace: Workspace, config: RankConfig, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        rank(workspace, config)
    with workspace.session() as session:
        assert rounds(session) == []
        assert events(session, "rank") == []


def test_a_cancelled_ranking_leaves_nothing_behind(workspace: Workspace) -> None:
    def stop(done: int, total: int, message: str) -> None:
        raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        rank(workspace, RankConfig(budget_seconds=500), progress=stop)
    with workspace.session() as session:
        assert rounds(session) == []


def test_an_empty_workspace_has_nothing_to_rank(tmp_path: Path) -> None:
    with Workspace.create(tmp_path / "empty") as empty, pytest.raises(NothingToDo, match="tilehawk ingest"):
        rank(empty, RankConfig())

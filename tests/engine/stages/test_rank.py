"""rank: a round is written whole, from predictions and accepted labels alone."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import delete, update

from engine.catalog.annotations import mark_reviewed
from engine.catalog.ledger import events
from engine.catalog.rounds import get_round, round_tiles, rounds
from engine.catalog.schema import Annotation
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, NothingToDo
from engine.stages.rank import RankConfig, rank

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

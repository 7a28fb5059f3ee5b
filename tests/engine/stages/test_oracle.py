"""The oracle: it pays for a round's tiles one by one, never twice, never over the budget, and only with labels that it knows."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import delete, select

from engine.catalog.annotations import tile_boxes
from engine.catalog.ledger import events
from engine.catalog.rounds import ChosenTile, add_round, get_round, round_tiles
from engine.catalog.schema import Annotation, Review, Scene
from engine.catalog.tiles import tiles
from engine.catalog.visits import measured_visits
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, Cancelled, LabelSetMismatch, NothingToDo
from engine.selection.cost import Prices
from engine.stages.oracle import OracleConfig, OracleReport, consult_oracle
from engine.stages.rank import RankConfig, rank

Fake = Callable[[str], ModuleType]
PRICES = Prices(open=5, verify=2, edit=6, draw=10, delete=1)
CONFIG = OracleConfig(prices=PRICES)


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        yield made


def make_round(workspace: Workspace, tile_ids: list[int], budget: float, predictions: int | None = None) -> None:
    chosen = [ChosenTile(tile_id, 1.0, 30.0, {"why": "by hand"}) for tile_id in tile_ids]
    with workspace.session() as session:
        add_round(session, budget_seconds=budget, strategy="random", seed=0, chosen=chosen, prediction_set_id=predictions)


def state(workspace: Workspace) -> list[object]:
    """Everything that the oracle may change."""
    with workspace.session(write=False) as session:
        annotations = [
            (row.id, row.state, row.annotator, row.version) for row in session.scalars(select(Annotation).order_by(Annotation.id))
        ]
        reviews = [(row.tile_id, row.by, row.seconds) for row in session.scalars(select(Review).order_by(Review.tile_id))]
        row = get_round(session)
        links = [(link.tile_id, link.measured_seconds, link.reasons) for link in round_tiles(session, row)]
        return [annotations, reviews, links, row.state, row.measured_seconds]


def all_train(workspace: Workspace, fake: Fake) -> list[int]:
    return [tile.id for tile in fake("labelled").records(workspace, "train")]


def test_without_predictions_every_box_is_drawn_and_the_tiles_are_complete(workspace: Workspace, fake: Fake) -> None:
    truth = fake("labelled").truth(workspace, "train")
    chosen = all_train(workspace, fake)[2:6]
    drawn = [len(truth[tile_id]) for tile_id in chosen]
    make_round(workspace, chosen, 1000)
    report = consult_oracle(workspace, CONFIG)
    assert sum(drawn) > 5
    assert report == OracleReport(1, 4, sum(drawn), 20 + 10 * sum(drawn), 120, 1000, 0, 0, sum(drawn), 0, 0, 0)
    with workspace.session() as session:
        reviewed = {row.tile_id: row for row in session.scalars(select(Review).where(Review.by == "oracle"))}
        accepted = tile_boxes(session, tiles(session, ids=chosen))
        assert get_round(session).state == "annotated"
        assert get_round(session).measured_seconds == report.seconds
        [event] = events(session, "oracle")
    assert [reviewed[tile_id].seconds for tile_id in chosen] == [5 + 10 * count for count in drawn]
    assert [len(accepted[tile_id]) for tile_id in chosen] == drawn
    assert event.details == {"round": 1, "tiles": 4, "seconds": report.seconds}


def test_only_boxes_that_show_in_a_visited_tile_are_accepted(workspace: Workspace, fake: Fake) -> None:
    chosen = all_train(workspace, fake)[2:3]
    make_round(workspace, chosen, 1000)
    report = consult_oracle(workspace, CONFIG)
    with workspace.session() as session:
        accepted = session.scalars(select(Annotation).where(Annotation.annotator == "oracle")).all()
        withheld = tile_boxes(session, tiles(session, ids=chosen), states=("withheld",))
    assert len(accepted) == report.boxes > 0
    assert len(withheld[chosen[0]]) == 0


def test_good_predictions_are_verified_and_cost_less(workspace: Workspace, fake: Fake) -> None:
    truth = fake("labelled").truth(workspace, "train")
    fake("labelled").predict(workspace, "good")
    rank(workspace, RankConfig(budget_seconds=1e6, prices=PRICES))
    report = consult_oracle(workspace, CONFIG)
    boxes = sum(len(found) for found in truth.values())
    assert (report.verified, report.edited, report.drawn, report.deleted) == (boxes, 0, 0, 0)
    assert report.seconds == 5 * 16 + 2 * boxes
    assert report.tiles == 16
    with workspace.session() as session:
        visits = measured_visits(session)
    assert {visit.tile: (visit.seconds, visit.verified) for visit in visits} == {
        tile_id: (5 + 2 * len(found), len(found)) for tile_id, found in truth.items()
    }
    assert {(visit.by, visit.edited, visit.drawn, visit.deleted) for visit in visits} == {("oracle", 0, 0, 0)}


@pytest.mark.parametrize(("stage", "score"), [("pretrain", 0.9), ("finetune", 0.2)])
def test_what_is_not_shown_has_to_be_drawn(workspace: Workspace, fake: Fake, stage: str, score: float) -> None:
    fake("labelled").predict(workspace, "hidden", stage=stage, score=score)
    rank(workspace, RankConfig(budget_seconds=1e6))
    report = consult_oracle(workspace, CONFIG)
    assert report.verified == report.edited == report.deleted == 0
    assert report.drawn == sum(len(found) for found in fake("labelled").truth(workspace, "train").values()) > 0


def test_it_stops_before_the_tile_that_would_exceed_the_budget(workspace: Workspace, fake: Fake) -> None:
    truth = fake("labelled").truth(workspace, "train")
    chosen = all_train(workspace, fake)
    seconds = [5 + 10 * len(truth[tile_id]) for tile_id in chosen]
    budget = sum(seconds[:3]) + seconds[3] - 1
    make_round(workspace, chosen, budget)
    report = consult_oracle(workspace, CONFIG)
    assert (report.tiles, report.not_reached, report.seconds) == (3, 13, sum(seconds[:3]))
    with workspace.session() as session:
        untouched = {tile.id for tile in tiles(session, split="train", reviewed=False)}
        measured = [link.measured_seconds for link in round_tiles(session, get_round(session))]
    assert untouched == set(chosen[3:])
    assert measured == [*seconds[:3], *[None] * 13]


def dearest_first(workspace: Workspace, fake: Fake) -> tuple[list[int], list[int]]:
    """Tiles of train ground by falling price, and their prices."""
    truth = fake("labelled").truth(workspace, "train")
    chosen = sorted(truth, key=lambda tile_id: -len(truth[tile_id]))
    return chosen, [5 + 10 * len(truth[tile_id]) for tile_id in chosen]


def test_a_tile_that_the_whole_budget_does_not_pay_for_is_passed_over(workspace: Workspace, fake: Fake) -> None:
    chosen, seconds = dearest_first(workspace, fake)
    assert seconds[0] > seconds[-1]
    make_round(workspace, [chosen[0], chosen[-1], chosen[1]], seconds[0] - 1)
    report = consult_oracle(workspace, CONFIG)
    assert (report.tiles, report.not_reached, report.seconds) == (1, 2, seconds[-1])


def test_a_round_whose_budget_pays_for_none_of_its_tiles_stays_open(workspace: Workspace, fake: Fake) -> None:
    chosen, seconds = dearest_first(workspace, fake)
    make_round(workspace, chosen[:2], seconds[1] - 1)
    before = state(workspace)
    with pytest.raises(NothingToDo, match=rf"budget of round 1, {seconds[1] - 1} seconds, .*cheapest takes {seconds[1]}.0 seconds"):
        consult_oracle(workspace, CONFIG)
    assert state(workspace) == before
    with workspace.session(write=False) as session:
        assert get_round(session).state == "ranked"


def test_a_finished_round_is_reported_again_and_not_charged_again(workspace: Workspace, fake: Fake) -> None:
    make_round(workspace, all_train(workspace, fake)[:9], 150)
    first = consult_oracle(workspace, CONFIG)
    before = state(workspace)
    assert consult_oracle(workspace, CONFIG) == first
    assert state(workspace) == before


@pytest.mark.parametrize("budget", [30, 150])
def test_stopped_after_any_tile_it_goes_on_to_the_same_end(tmp_path: Path, fake: Fake, budget: float) -> None:
    ends = []
    for stop_after in range(7):
        with Workspace.create(tmp_path / str(stop_after)) as workspace:
            fake("labelled").fill(workspace, fake("catalog").add_scene)
            make_round(workspace, all_train(workspace, fake)[:9], budget)

            def stop(done: int, total: int, message: str, after: int = stop_after) -> None:
                if after and done == after - 1:
                    raise Cancelled("stopped by the user")

            with suppress(Cancelled):
                consult_oracle(workspace, CONFIG, progress=stop)
            ends.append((consult_oracle(workspace, CONFIG), state(workspace)))
    assert all(end == ends[0] for end in ends)


def test_a_box_seen_again_in_an_overlapping_tile_is_verified_and_not_drawn(tmp_path: Path, fake: Fake) -> None:
    with Workspace.create(tmp_path / "overlapping") as workspace:
        fake("labelled").fill(workspace, fake("catalog").add_scene, overlap=16)
        make_round(workspace, all_train(workspace, fake), 1e6)
        report = consult_oracle(workspace, CONFIG)
        with workspace.session() as session:
            scenes = session.scalars(select(Scene.id).where(Scene.split == "train")).all()
            held = session.scalars(select(Annotation).where(Annotation.scene_id.in_(scenes))).all()
    assert {row.state for row in held} == {"accepted"}
    assert report.drawn == report.boxes == len(held)
    assert report.verified > 0
    assert report.edited == report.deleted == 0


def test_a_tile_that_somebody_reviewed_meanwhile_is_left_alone(workspace: Workspace, fake: Fake) -> None:
    chosen = all_train(workspace, fake)[2:5]
    make_round(workspace, chosen, 1000)
    with workspace.session() as session:
        session.add(Review(tile_id=chosen[1], by="ada", seconds=3.0))
    report = consult_oracle(workspace, CONFIG)
    assert report.tiles == 2
    with workspace.session() as session:
        assert session.scalar(select(Review.by).where(Review.tile_id == chosen[1])) == "ada"
        assert round_tiles(session, get_round(session))[1].measured_seconds is None


def test_scenes_without_labels_are_unknown_unless_said_to_be_empty(workspace: Workspace, fake: Fake) -> None:
    with workspace.session() as session:
        session.execute(delete(Annotation).where(Annotation.scene_id == 1))
    chosen = all_train(workspace, fake)
    make_round(workspace, chosen, 1e6)
    make_round(workspace, chosen[:3], 1e6)
    report = consult_oracle(workspace, OracleConfig(round=1))
    assert (report.tiles, report.unknown, report.not_reached) == (8, 8, 0)
    with pytest.raises(NothingToDo, match=r"knows nothing of the 3 tiles of round 2.*--withhold"):
        consult_oracle(workspace, OracleConfig(round=2))
    report = consult_oracle(workspace, OracleConfig(round=2, assume_empty=True))
    assert (report.tiles, report.boxes, report.unknown) == (3, 0, 0)


def test_predictions_of_other_classes_are_refused(workspace: Workspace, fake: Fake) -> None:
    fake("labelled").predict(workspace, "foreign", fingerprint="0" * 16)
    rank(workspace, RankConfig(budget_seconds=1e6))
    before = state(workspace)
    with pytest.raises(LabelSetMismatch, match="other classes"):
        consult_oracle(workspace, CONFIG)
    assert state(workspace) == before


def test_no_round_says_what_to_type(workspace: Workspace) -> None:
    with pytest.raises(BadInput, match="tilehawk rank"):
        consult_oracle(workspace, CONFIG)


@pytest.mark.parametrize("budget", [30, 90, 200])
def test_charged_seconds_stay_within_the_budget_however_wrong_the_estimate(workspace: Workspace, fake: Fake, budget: float) -> None:
    fake("labelled").predict(workspace, "fair", score=0.5, keep=0.3)
    ranked = rank(workspace, RankConfig(budget_seconds=budget, prices=PRICES))
    report = consult_oracle(workspace, CONFIG)
    assert 0 < report.seconds <= budget
    assert report.tiles + report.not_reached == len(ranked.tiles)

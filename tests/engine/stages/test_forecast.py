"""forecast: what the rounds so far say of the next money, and every case in which they say nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from engine.catalog.annotations import mark_reviewed
from engine.catalog.models import add_model, get_model
from engine.catalog.predictions import predictions_directory
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import Annotation, LedgerEvent, ModelRow, Review
from engine.catalog.visits import MeasuredVisit, record_visit
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, UsageError
from engine.stages.forecast import ForecastConfig, forecast, priced, prospect

Fake = Callable[[str], ModuleType]
CONFIG = ForecastConfig(draws=300, picture=False, hourly_rate=36, step_money=1)
AP50 = [0.2, 0.31, 0.38, 0.42]


@pytest.fixture
def workspace(tmp_path: Path, fake: Fake) -> Iterator[Workspace]:
    """16 tiles of training ground, all boxes known; nobody has looked yet."""
    with Workspace.create(tmp_path / "workspace") as made:
        fake("labelled").fill(made, fake("catalog").add_scene)
        with made.session() as session:
            session.execute(update(Annotation).values(state="accepted"))
        yield made


def annotate(workspace: Workspace, fake: Fake, rounds: int, *, tiles: int = 3, seconds: float | None = 20.0) -> list[int]:
    """Review ``tiles`` more tiles of training ground in each round; returns the boxes after each."""
    truth = fake("labelled").truth(workspace, "train")
    boxes = []
    with workspace.session() as session:
        for number in range(rounds):
            ids = sorted(truth)[: tiles * (number + 1)]
            mark_reviewed(session, ids, by="somebody", seconds=seconds)
            boxes.append(sum(len(truth[tile_id]) for tile_id in ids))
    return boxes


def measure(workspace: Workspace, name: str, tiles: int, boxes: int, ap50: Any, *, split: str = "test", ground: int = 400) -> None:
    with workspace.session() as session:
        metrics = {"training": {"tiles": tiles, "boxes": boxes}, split: {"ap50": ap50, "tiles": 4, "boxes": ground}}
        add_model(session, name=name, stage="finetune", config={}, data_hash="0" * 64, metrics=metrics)


@pytest.fixture
def measured(workspace: Workspace, fake: Fake) -> Workspace:
    """Four rounds of three tiles, 20 s each, a measured model after each; four tiles are left."""
    for number, boxes in enumerate(annotate(workspace, fake, 4)):
        measure(workspace, f"round-{number + 1}", 3 * (number + 1), boxes, AP50[number])
    return workspace


def test_the_budget_is_told_in_tiles_boxes_hours_and_money(measured: Workspace, fake: Fake) -> None:
    report = forecast(measured, CONFIG.model_copy(update={"budget_money": 0.4}))
    rate = report.boxes_annotated / 240
    assert report.rates.timed_tiles == 12
    assert (report.rates.tiles_per_hour, report.rates.boxes_per_hour) == (pytest.approx(180), pytest.approx(3600 * rate))
    assert (report.budget.money, report.budget.seconds, report.budget.tiles) == (pytest.approx(0.4), pytest.approx(40), 2)
    assert report.budget.boxes == round(40 * rate)
    assert report.today.boxes == report.today.money == 0
    assert report.today.ap50 < report.budget.ap50
    assert report.budget.low < report.budget.ap50 < report.budget.high
    assert [(each.model, each.seconds, each.ap50) for each in report.measured] == [
        (f"round-{number}", 60.0 * number, AP50[number - 1]) for number in (1, 2, 3, 4)
    ]
    assert sum(report.families.values()) == pytest.approx(1)
    assert report.summary.startswith(f"0.40 € buys 2 tiles, {report.budget.boxes} boxes, 0.0 hours; AP50 {report.budget.ap50:.3f} (")
    assert (report.rates.density, report.rates.boxes_per_tile) == ("annotated", pytest.approx(report.boxes_annotated / 12))
    assert [note.split(":")[0] for note in report.notes] == [
        f"Tiles left are taken to hold as many boxes as annotated ones, {report.boxes_annotated / 12:.1f}"
    ]
    json.dumps(asdict(report), allow_nan=False)


def test_seconds_are_a_budget_too_and_one_step_is_taken_where_there_is_none(measured: Workspace) -> None:
    in_money = forecast(measured, CONFIG.model_copy(update={"budget_money": 0.4}))
    in_seconds = forecast(measured, CONFIG.model_copy(update={"budget_seconds": 40.0}))
    assert in_seconds.budget == in_money.budget
    small = CONFIG.model_copy(update={"step_money": 0.2})
    assert forecast(measured, small).budget.money == pytest.approx(0.2)


def test_one_prospect_is_priced_for_any_budget(measured: Workspace) -> None:
    found = prospect(measured, CONFIG)
    for money in (0.1, 0.6):
        config = CONFIG.model_copy(update={"budget_money": money})
        assert priced(measured, found, config) == forecast(measured, config)
    with pytest.raises(BadInput, match="budget_money = 0"):
        priced(measured, found, CONFIG.model_copy(update={"budget_money": 0.0}))


def test_what_is_bought_ends_with_the_tiles(measured: Workspace) -> None:
    report = forecast(measured, CONFIG.model_copy(update={"budget_money": 1000.0}))
    assert (report.tiles_left, report.budget.tiles, report.budget.seconds) == (4, 4, pytest.approx(80))
    assert report.budget.next_gain == 0
    assert [each.tiles for each in report.ahead] == [2, 4]
    assert any("larger than what annotating every tile left takes" in note for note in report.notes)


def test_the_same_workspace_gives_the_same_report_and_is_left_as_it_was(measured: Workspace) -> None:
    before = sorted(path.name for path in measured.reports.iterdir())
    assert forecast(measured, CONFIG) == forecast(measured, CONFIG)
    assert sorted(path.name for path in measured.reports.iterdir()) == before


def test_the_picture_is_drawn(measured: Workspace) -> None:
    report = forecast(measured, CONFIG.model_copy(update={"picture": True}))
    assert report.picture == "reports/forecast.png"
    assert (measured.root / "reports" / "forecast.png").read_bytes().startswith(b"\x89PNG")


def test_another_stage_may_be_at_work(measured: Workspace) -> None:
    with measured.worker_lock("finetune"):
        assert forecast(measured, CONFIG).split == "test"


def test_advice_follows_the_least_gain(measured: Workspace) -> None:
    on = forecast(measured, CONFIG.model_copy(update={"least_gain": 0.001}))
    off = forecast(measured, CONFIG.model_copy(update={"least_gain": 0.9}))
    assert (on.stop.stop, off.stop.stop) == (False, True)
    assert on.advice.startswith("Go on: the next 0.80 €, all that is left to spend, is expected to add")
    assert off.advice.startswith("Stop: the next 0.80 €, all that is left to spend, is expected to add")
    assert on.stop.expected_gain == off.stop.expected_gain


def test_the_money_that_can_still_be_spent_is_named_and_judged(measured: Workspace) -> None:
    report = forecast(measured, CONFIG.model_copy(update={"step_money": 1000.0, "least_gain": 0.5, "budget_money": 0.4}))
    assert (report.stop.step_money, report.stop.least_gain) == (pytest.approx(0.8), pytest.approx(0.0004))
    assert not report.stop.stop
    assert "the next 0.40 € adds" in report.summary
    assert report.advice.endswith("no tile is left")
    everything = forecast(measured, CONFIG.model_copy(update={"budget_money": 100.0}))
    assert everything.summary.endswith("no tile is left after that")


def lean_on_the_rest(workspace: Workspace, fake: Fake) -> None:
    """A detector looks at all tiles of training ground, and finds one object on each that is left."""
    truth = fake("labelled").truth(workspace, "train")
    found = fake("labelled").predict(workspace, "look", model="round-4", score=0.9)
    first = np.searchsorted(found.tile_index, found.tile_index) == np.arange(len(found.tile_index))
    kept = first | np.isin(found.tile_ids[found.tile_index], sorted(truth)[:12])
    columns = ("tile_index", "boxes_tile", "labels", "scores", "class_scores", "drift", "queries")
    fewer = replace(found, **{name: getattr(found, name)[kept] for name in columns})
    shutil.rmtree(predictions_directory(workspace, "look"))
    fewer.save(predictions_directory(workspace, "look"))


def test_what_is_left_is_as_rich_as_the_detector_sees_it(measured: Workspace, fake: Fake) -> None:
    before = forecast(measured, CONFIG)
    truth = fake("labelled").truth(measured, "train")
    left = np.mean([len(truth[tile_id]) > 0 for tile_id in sorted(truth)[12:]])
    with measured.session() as session:
        metrics = get_model(session, "round-4").metrics
    lean_on_the_rest(measured, fake)
    with measured.session() as session:
        get_model(session, "round-4").metrics = metrics
    after = forecast(measured, CONFIG)
    assert after.rates.density == "detector"
    assert not any("taken to hold" in note for note in after.notes)
    assert after.rates.boxes_per_tile == pytest.approx(left, rel=0.1)
    assert after.rates.boxes_per_hour < before.rates.boxes_per_hour
    assert after.rates.tiles_per_hour > before.rates.tiles_per_hour


def test_without_a_detector_tiles_drawn_at_random_say_how_rich_the_rest_is(measured: Workspace, fake: Fake) -> None:
    truth = fake("labelled").truth(measured, "train")
    drawn = sorted(sorted(truth)[:12], key=lambda tile_id: len(truth[tile_id]))[:6]
    with measured.session() as session:
        chosen = [ChosenTile(tile_id, 1.0, 20.0, {"audit": tile_id in drawn}) for tile_id in sorted(truth)[:12]]
        add_round(session, budget_seconds=600, strategy="tilehawk", seed=0, chosen=chosen)
    report = forecast(measured, CONFIG)
    assert report.rates.density == "drawn"
    assert report.rates.boxes_per_tile == pytest.approx(sum(len(truth[tile_id]) for tile_id in drawn) / 6)


def test_the_split_with_more_measurements_is_taken_unless_one_is_named(measured: Workspace) -> None:
    with measured.session() as session:
        for number, ap50 in enumerate([0.5, 0.6]):
            row = get_model(session, f"round-{number + 1}")
            row.metrics = {**row.metrics, "dev": {"ap50": ap50, "tiles": 4, "boxes": 50}}
    assert forecast(measured, CONFIG).split == "test"
    report = forecast(measured, CONFIG.model_copy(update={"split": "dev"}))
    assert [each.ap50 for each in report.measured] == [0.5, 0.6]
    assert any(note.startswith("Only two amounts") for note in report.notes)


def test_named_models_alone_count(measured: Workspace) -> None:
    report = forecast(measured, CONFIG.model_copy(update={"models": ("round-1", "round-3", "round-4")}))
    assert [each.model for each in report.measured] == ["round-1", "round-3", "round-4"]
    with pytest.raises(BadInput, match="no finetune model named 'nothing'"):
        forecast(measured, CONFIG.model_copy(update={"models": ("nothing",)}))


def test_tiles_that_nobody_timed_are_told_of_and_prices_stand_in(measured: Workspace) -> None:
    with measured.session() as session:
        session.execute(update(Review).where(Review.id % 2 == 0).values(seconds=None))
    assert any("were not timed: rates come from the others" in note for note in forecast(measured, CONFIG).notes)
    with measured.session() as session:
        session.execute(update(Review).values(seconds=None))
    report = forecast(measured, CONFIG)
    newest = report.measured[-1]
    seconds = newest.tiles * CONFIG.prices.open + newest.boxes * CONFIG.prices.draw
    assert report.rates.timed_tiles == 0
    assert report.rates.boxes_per_hour == pytest.approx(3600 * newest.boxes / seconds)
    assert any("rates come from prices" in note for note in report.notes)


def test_a_tile_that_was_left_lying_over_lunch_does_not_slow_the_rate(measured: Workspace) -> None:
    before = forecast(measured, CONFIG)
    with measured.session() as session:
        session.execute(update(Review).where(Review.id == 5).values(seconds=3600.0))
    after = forecast(measured, CONFIG)
    assert after.rates.timed_tiles == before.rates.timed_tiles - 1
    assert after.rates.tiles_per_hour == pytest.approx(before.rates.tiles_per_hour)
    assert after.rates.lying_tiles == 1
    assert any(note.startswith("1 of") and "left lying" in note for note in after.notes)


def visit(workspace: Workspace, fake: Fake, seconds_of: Callable[[int, int], float]) -> None:
    """Every reviewed tile was visited, its boxes verified; ``seconds_of`` its place and its number of boxes."""
    truth = fake("labelled").truth(workspace, "train")
    with workspace.session() as session:
        for place, review in enumerate(session.scalars(select(Review).where(Review.tile_id.in_(truth)).order_by(Review.tile_id))):
            boxes = len(truth[review.tile_id])
            review.seconds = seconds_of(place, boxes)
            record_visit(session, MeasuredVisit(review.tile_id, "ana", "browser", review.seconds, boxes, 0, 0, 0))


def test_tiles_left_lying_are_told_by_what_was_done_on_them(measured: Workspace, fake: Fake) -> None:
    visit(measured, fake, lambda place, boxes: 4.0 + 2 * boxes)
    before = forecast(measured, CONFIG)
    with measured.session() as session:
        session.execute(delete(LedgerEvent))
    visit(measured, fake, lambda place, boxes: 70.0 if place in (1, 5) else 4.0 + 2 * boxes)
    after = forecast(measured, CONFIG)
    assert (after.rates.timed_tiles, after.rates.lying_tiles) == (10, 2)
    assert after.rates.boxes_per_hour == pytest.approx(before.rates.boxes_per_hour, rel=0.2)


@pytest.mark.parametrize("visited", [True, False])
def test_a_slow_annotator_is_no_idle_one(measured: Workspace, fake: Fake, visited: bool) -> None:
    visit(measured, fake, lambda place, boxes: 8 * (4.0 + 12 * boxes))
    if not visited:
        with measured.session() as session:
            session.execute(delete(LedgerEvent))
    report = forecast(measured, CONFIG)
    seconds = 8 * (4.0 * 12 + 12 * report.boxes_annotated)
    assert (report.rates.timed_tiles, report.rates.lying_tiles) == (12, 0)
    assert report.rates.tiles_per_hour == pytest.approx(3600 * 12 / seconds, rel=0.1)


def test_what_was_all_left_lying_is_not_said_to_be_untimed(measured: Workspace) -> None:
    with measured.session() as session:
        session.execute(update(Review).where(Review.id != 5).values(seconds=None))
        session.execute(update(Review).where(Review.id == 5).values(seconds=3600.0))
    report = forecast(measured, CONFIG)
    assert (report.rates.timed_tiles, report.rates.lying_tiles) == (0, 1)
    assert any(note.startswith("Of annotated tiles with boxes, none was timed that was not left lying") for note in report.notes)


def test_labels_since_the_newest_model_are_counted_as_there(measured: Workspace, fake: Fake) -> None:
    before = forecast(measured, CONFIG)
    annotate(measured, fake, 1, tiles=14)
    after = forecast(measured, CONFIG)
    assert after.tiles_left == 2
    assert after.boxes_annotated > before.boxes_annotated
    assert after.today.ap50 > before.today.ap50
    assert any("since the newest measured model" in note for note in after.notes)


def remake(workspace: Workspace, names: list[str], **config: Any) -> None:
    with workspace.session() as session:
        session.execute(update(ModelRow).where(ModelRow.name.in_(names)).values(config=config))


def test_the_curve_is_that_of_models_made_like_the_last(measured: Workspace) -> None:
    remake(measured, ["round-1", "round-2"], schedule={"images_seen": 2400, "seed": 1})
    remake(measured, ["round-3"], schedule={"images_seen": 9600, "seed": 2})
    remake(measured, ["round-4"], schedule={"images_seen": 9600, "seed": 3})
    report = forecast(measured, CONFIG)
    assert [each.model for each in report.measured] == ["round-3", "round-4"]
    assert not any("not all made alike" in note for note in report.notes)
    named = forecast(measured, CONFIG.model_copy(update={"models": ("round-1", "round-4")}))
    assert any("not all made alike" in note for note in named.notes)


def test_where_too_few_are_alike_all_count_and_that_is_said(measured: Workspace) -> None:
    remake(measured, ["round-4"], detector={"backbone": "resnet50"})
    report = forecast(measured, CONFIG)
    assert len(report.measured) == 4
    assert any("not all made alike" in note for note in report.notes)


def test_models_measured_on_other_ground_are_told_of(measured: Workspace) -> None:
    with measured.session() as session:
        row = get_model(session, "round-2")
        row.metrics = {**row.metrics, "test": {**row.metrics["test"], "tiles": 2}}
    assert any("measured on different tiles" in note for note in forecast(measured, CONFIG).notes)


def test_without_measurements_it_says_what_to_type(workspace: Workspace, fake: Fake) -> None:
    with pytest.raises(NothingToDo, match=r"none is.*two amounts.*tilehawk evaluate --model NAME"):
        forecast(workspace, CONFIG)
    [boxes] = annotate(workspace, fake, 1)
    measure(workspace, "only", 3, boxes, 0.3)
    with pytest.raises(NothingToDo, match=f"all learned from {boxes} boxes"):
        forecast(workspace, CONFIG)
    measure(workspace, "again", 3, boxes, 0.4)
    with pytest.raises(NothingToDo, match=f"all learned from {boxes} boxes"):
        forecast(workspace, CONFIG)


@pytest.mark.parametrize("ap50", [float("nan"), None, 1.5, -0.1])
def test_a_measurement_that_is_no_share_is_named_with_its_model(measured: Workspace, ap50: float | None) -> None:
    with measured.session() as session:
        row = get_model(session, "round-3")
        row.metrics = {**row.metrics, "test": {**row.metrics["test"], "ap50": ap50}}
    with pytest.raises(BadInput, match=r"of the model 'round-3' on test ground.*tilehawk evaluate --model round-3 --split test"):
        forecast(measured, CONFIG)


def test_when_all_is_annotated_there_is_nothing_to_buy(measured: Workspace, fake: Fake) -> None:
    annotate(measured, fake, 1, tiles=16)
    with pytest.raises(NothingToDo, match="every tile of the training ground is annotated"):
        forecast(measured, CONFIG)


def test_a_model_that_learned_from_nothing_is_refused(measured: Workspace) -> None:
    measure(measured, "empty", 0, 0, 0.0)
    with pytest.raises(BadInput, match="an amount of 0"):
        forecast(measured, CONFIG)


@pytest.mark.parametrize(
    ("change", "error", "found"),
    [
        ({"budget_money": 0.0}, BadInput, "budget_money = 0"),
        ({"budget_seconds": -5.0}, BadInput, "budget_seconds = -5"),
        ({"budget_money": 5.0, "budget_seconds": 5.0}, UsageError, "budget_seconds and budget_money"),
    ],
)
def test_an_impossible_budget_is_refused(measured: Workspace, change: dict[str, float], error: type[Exception], found: str) -> None:
    with pytest.raises(error, match=found):
        forecast(measured, CONFIG.model_copy(update=change))


def test_models_whose_labels_are_gone_are_told_of(measured: Workspace) -> None:
    with measured.session() as session:
        session.execute(delete(Review).where(Review.id > 8))
    report = forecast(measured, CONFIG)
    assert report.rates.timed_tiles == 4
    assert report.measured[-1].seconds == 80.0
    assert any(note.startswith("-") and "since the newest measured model" in note for note in report.notes)
    with measured.session() as session:
        session.execute(update(Annotation).values(state="deleted"))
    with pytest.raises(BadInput, match="0 annotated boxes"):
        forecast(measured, CONFIG)

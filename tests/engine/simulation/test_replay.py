"""Replays: the same start for all, budgets that hold, no look at what nobody paid for, and a crash costs nothing."""

import dataclasses
import json

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.errors import BadInput, Cancelled, NothingToDo, UsageError
from engine.progress import silent
from engine.selection.config import SelectionConfig
from engine.selection.cost import CostConfig, Prices
from engine.selection.rank import rank
from engine.selection.strategies import STRATEGIES
from engine.simulation.pool import object_numbers
from engine.simulation.replay import ReplayConfig, replay, replay_all_labels

CONFIG = ReplayConfig(start=400, budgets=(300, 300))
NOTHING_EXPECTED = CostConfig(expected_objects=0.0, overlooked_objects=0.0)


@pytest.fixture
def fakes(fake):
    return fake("replayed")


def run(fakes, path, strategy="tilehawk", *, seed=0, config=CONFIG, pool=None, learner=None, progress=silent):
    pool = pool or fakes.pool()
    return replay(pool, learner or fakes.CountingLearner(pool), config, strategy, seed, path / f"{strategy}-{seed}.json", progress=progress)


def crowded(fakes, few):
    """A pool of tiles with nine objects each, but the first ``few`` have three."""
    pool = fakes.pool()
    places = np.arange(9)[:, None] * [4.0, 0, 4, 0] + [0, 0, 16, 16]
    true = [Boxes(places[: 3 if row < few else 9], [0] * (3 if row < few else 9)) for row in range(len(pool))]
    return dataclasses.replace(pool, true=true)


def twice(fakes):
    """Four pairs of tiles that show the same ground, with two objects each."""
    pool = fakes.pool(tiles=8)
    true = [Boxes([[4.0, 4, 20, 20], [30, 30, 46, 46]], [0, 1])] * 8
    windows = np.tile([0.0, 0, 64, 64], (8, 1))
    objects = [np.array([row // 2 * 2, row // 2 * 2 + 1]) for row in range(8)]
    return dataclasses.replace(pool, scene_ids=np.arange(8) // 2, windows_scene=windows, true=true, objects=objects)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_every_round_keeps_its_budget_and_takes_no_tile_twice(fakes, tmp_path, strategy):
    rounds = run(fakes, tmp_path, strategy)
    assert [each.round for each in rounds] == [0, 1, 2]
    for each, budget in zip(rounds, (400, 300, 300), strict=True):
        assert 0 < each.charged_seconds <= budget
    chosen = [tile for each in rounds for tile in each.tile_ids]
    assert len(set(chosen)) == len(chosen) == rounds[-1].tiles
    assert rounds[-1].seconds == pytest.approx(sum(each.charged_seconds for each in rounds))


@pytest.mark.parametrize("strategy", ["random", "tilehawk"])
def test_a_budget_is_spent_though_tiles_take_less_than_was_expected(fakes, tmp_path, strategy):
    rounds = run(fakes, tmp_path, strategy, config=ReplayConfig(start=400, budgets=(500, 500), noise=0.0))
    for each, budget in zip(rounds, (400, 500, 500), strict=True):
        assert each.charged_seconds >= 0.85 * budget


def test_what_is_spent_adds_up_at_the_prices(fakes, tmp_path):
    pool = fakes.pool()
    last = run(fakes, tmp_path, config=CONFIG.model_copy(update={"noise": 0.0}), pool=pool)[-1]
    prices = Prices()
    assert last.seconds == pytest.approx(
        prices.open * last.tiles
        + prices.verify * last.verified
        + prices.edit * last.edited
        + prices.draw * last.drawn
        + prices.delete * last.deleted
    )
    assert last.boxes == last.verified + last.edited + last.drawn


def test_all_strategies_start_from_the_same_tiles_of_a_seed(fakes, tmp_path):
    first = {strategy: run(fakes, tmp_path, strategy)[0] for strategy in ("random", "tilehawk", "k-center")}
    assert len({each.tile_ids for each in first.values()}) == 1
    assert run(fakes, tmp_path, "random", seed=1)[0].tile_ids != first["random"].tile_ids


def test_objects_that_nobody_paid_for_change_nothing_before_they_are_seen(fakes, tmp_path):
    pool = fakes.pool()
    rounds = run(fakes, tmp_path / "a", pool=pool)
    visited = {tile for each in rounds for tile in each.tile_ids}
    moved = [
        known if int(tile) in visited else Boxes(known.xyxy[::-1], 1 - known.labels[::-1])
        for tile, known in zip(pool.tile_ids, pool.true, strict=True)
    ]
    learner = fakes.CountingLearner(pool)
    other = replay(dataclasses.replace(pool, true=moved), learner, CONFIG, "tilehawk", 0, tmp_path / "b.json", progress=silent)
    assert [each.tile_ids for each in other] == [each.tile_ids for each in rounds]


def test_a_result_that_is_there_is_gone_on_with(fakes, tmp_path):
    pool = fakes.pool()
    whole = run(fakes, tmp_path / "whole", pool=pool)
    learner = fakes.CountingLearner(pool)

    def stop(done, total, message):
        if message == "learn tilehawk-0-2":
            raise Cancelled("stopped by the user")

    with pytest.raises(Cancelled):
        run(fakes, tmp_path / "cut", pool=pool, learner=learner, progress=stop)
    assert len(json.loads((tmp_path / "cut" / "tilehawk-0.json").read_text())["rounds"]) == 2
    assert run(fakes, tmp_path / "cut", pool=pool, learner=learner) == whole
    assert [name for name, _ in learner.learned] == ["start-0", "tilehawk-0-1", "tilehawk-0-2"]
    assert run(fakes, tmp_path / "cut", pool=pool, learner=fakes.CountingLearner(pool)) == whole


@pytest.mark.parametrize(("unit", "budget"), [("tiles", 12), ("boxes", 20)])
def test_budgets_in_tiles_and_in_boxes(fakes, tmp_path, unit, budget):
    config = ReplayConfig(start=budget, budgets=(budget, budget), unit=unit)
    rounds = run(fakes, tmp_path, config=config)
    spent = [getattr(each, unit) for each in rounds]
    assert all(now - before <= budget for before, now in zip([0, *spent], spent, strict=False))
    if unit == "tiles":
        assert spent == [12, 24, 36]


def test_it_ends_when_nothing_is_left(fakes, tmp_path):
    config = ReplayConfig(start=1e5, budgets=(1e5, 1e5))
    rounds = run(fakes, tmp_path, config=config)
    assert len(rounds) == 1
    assert rounds[0].tiles == 120
    assert json.loads((tmp_path / "tilehawk-0.json").read_text())["ended"]


def test_what_has_ended_is_not_gone_on_with(fakes, tmp_path):
    config = ReplayConfig(start=400, budgets=(1e5, 300, 300))
    rounds = run(fakes, tmp_path, config=config)
    assert [each.round for each in rounds] == [0, 1]
    forgetful = fakes.CountingLearner(fakes.pool())
    assert run(fakes, tmp_path, config=config, learner=forgetful) == rounds
    assert forgetful.learned == []


@pytest.mark.parametrize("ended", [False, True])
def test_a_budget_that_pays_for_nothing_is_an_empty_round_and_the_next_is_played(fakes, tmp_path, ended):
    config = ReplayConfig(start=400, budgets=(5, 600, 900))
    pool = fakes.pool()
    learner = fakes.CountingLearner(pool)
    rounds = run(fakes, tmp_path, config=config, pool=pool, learner=learner)
    assert [each.round for each in rounds] == [0, 1, 2, 3]
    assert [bool(each.tile_ids) for each in rounds] == [True, False, True, True]
    assert {each.looks for each in rounds} == {2.0}
    assert dataclasses.replace(rounds[1], round=0, tile_ids=rounds[0].tile_ids, expected_seconds=0, charged_seconds=0) == (
        dataclasses.replace(rounds[0], expected_seconds=0, charged_seconds=0)
    )
    assert [name for name, _ in learner.learned] == ["start-0", "tilehawk-0-2", "tilehawk-0-3"]
    file = tmp_path / "tilehawk-0.json"
    document = json.loads(file.read_text())
    assert not document["ended"]
    file.write_text(json.dumps(document | {"rounds": document["rounds"][:2], "ended": ended}))
    assert run(fakes, tmp_path, config=config, pool=pool, learner=learner) == rounds, "whatever the file says of its end"


def test_a_start_that_pays_for_nothing_is_refused(fakes, tmp_path):
    with pytest.raises(NothingToDo, match="pays for no tile") as refused:
        run(fakes, tmp_path, config=ReplayConfig(start=1.0))
    assert "replay.start" in refused.value.remedy
    with pytest.raises(NothingToDo, match="pays for no tile"):
        run(fakes, tmp_path, config=ReplayConfig(start=4.5, selection=SelectionConfig(cost=NOTHING_EXPECTED)), pool=crowded(fakes, 0))


def test_a_tile_that_the_budget_does_not_pay_for_is_passed_over_while_nothing_was_visited(fakes, tmp_path):
    pool = crowded(fakes, 3)
    config = ReplayConfig(start=41, budgets=(), noise=0.0, selection=SelectionConfig(cost=NOTHING_EXPECTED))
    for seed in range(4):
        first = run(fakes, tmp_path, seed=seed, config=config, pool=pool)[0]
        assert first.tiles == 1
        assert set(first.tile_ids) <= set(pool.tile_ids[:3].tolist())


@pytest.mark.parametrize("budgets", [(300, 0), (-1,)])
def test_budgets_that_are_none_are_refused(budgets):
    with pytest.raises(UsageError):
        ReplayConfig.from_mapping({"budgets": budgets})


def test_an_object_is_paid_for_once_though_two_tiles_show_it(fakes, tmp_path):
    pool = twice(fakes)
    config = ReplayConfig(start=1e5, budgets=(), noise=0.0)
    once = run(fakes, tmp_path / "once", config=config, pool=pool)[0]
    assert (once.tiles, once.boxes, once.drawn, once.verified) == (8, 8, 8, 8)
    assert once.seconds == pytest.approx(8 * Prices().open + 8 * Prices().draw + 8 * Prices().verify)
    each = run(fakes, tmp_path / "each", config=config, pool=dataclasses.replace(pool, objects=None))[0]
    assert (each.boxes, each.drawn, each.verified) == (16, 16, 0)
    for objects, seconds in ((pool.objects, once.seconds), (None, each.seconds)):
        same = dataclasses.replace(pool, objects=objects)
        path = tmp_path / f"all-{objects is None}.json"
        replay_all_labels(same, fakes.CountingLearner(same), 0, path, prices=Prices(), progress=silent)
        found = json.loads(path.read_text())
        assert (found["boxes"], found["seconds"]) == (same.boxes, pytest.approx(seconds))


def test_what_was_paid_for_in_an_earlier_round_is_shown(fakes, tmp_path):
    rounds = run(fakes, tmp_path, config=ReplayConfig(start=4, budgets=(4,), unit="tiles", noise=0.0), pool=twice(fakes))
    assert rounds[-1].tiles == 8
    assert rounds[-1].boxes == 8
    assert rounds[-1].drawn <= 8


def test_objects_are_told_by_their_place_in_the_scene():
    windows = np.array([[0.0, 0, 64, 64], [32, 0, 96, 64], [0, 0, 64, 64]])
    known = {4: Boxes([[40, 8, 56, 24], [80, 8, 90, 18], [-20, 0, 30, 10]], [0, 1, 0]), 2: Boxes([[0, 0, 9, 9]], [0])}
    found = object_numbers(np.array([4, 4, 2]), windows, known, 0.4)
    assert [each.tolist() for each in found] == [[1, 3], [1, 2], [0]]
    for scene, window, numbers in zip((4, 4, 2), windows, found, strict=True):
        assert len(known[scene].visible_in(tuple(window), 0.4)) == len(numbers)


def test_object_numbers_that_do_not_go_with_the_boxes_are_refused(fakes):
    pool = twice(fakes)
    with pytest.raises(BadInput, match="object numbers"):
        dataclasses.replace(pool, objects=[each[:-1] for each in pool.objects])


@pytest.mark.parametrize("unit", ["tiles", "boxes"])
def test_seconds_are_expected_whatever_the_budget_is_counted_in(fakes, tmp_path, unit):
    config = ReplayConfig(start=12, budgets=(), unit=unit, noise=0.0)
    first = run(fakes, tmp_path, config=config)[0]
    prices, cost = config.selection.prices, config.selection.cost
    assert first.expected_seconds == pytest.approx(first.tiles * (prices.open + prices.draw * cost.expected_objects))


def test_noise_is_that_of_the_tile_and_the_seed(fakes, tmp_path):
    noisy = CONFIG.model_copy(update={"noise": 0.5})
    one, other = run(fakes, tmp_path / "a", config=noisy)[0], run(fakes, tmp_path / "b", config=noisy)[0]
    assert one == other
    quiet = run(fakes, tmp_path / "c", config=CONFIG.model_copy(update={"noise": 0.0}))[0]
    assert quiet.charged_seconds != one.charged_seconds


def test_the_whole_pool_is_the_best_that_can_be_had(fakes, tmp_path):
    pool = fakes.pool()
    learner = fakes.CountingLearner(pool)
    best = replay_all_labels(pool, learner, 0, tmp_path / "all.json", prices=Prices(), progress=silent)
    assert best.ap50 >= run(fakes, tmp_path, pool=pool)[-1].measured.ap50
    document = json.loads((tmp_path / "all.json").read_text())
    assert document["looks"] == 2.0
    assert document["seconds"] == pytest.approx(120 * Prices().open + pool.boxes * Prices().draw)
    assert replay_all_labels(pool, learner, 0, tmp_path / "all.json", prices=Prices(), progress=silent) == best
    assert [name for name, _ in learner.learned] == ["all-0"]


def test_a_pool_that_does_not_fit_together_or_is_empty_is_refused(fakes):
    pool = fakes.pool()
    with pytest.raises(BadInput, match="one a tile"):
        dataclasses.replace(pool, true=pool.true[:-1])
    with pytest.raises(BadInput, match="strictly rising"):
        dataclasses.replace(pool, tile_ids=pool.tile_ids[::-1])
    with pytest.raises(NothingToDo, match="120 labelled tiles without an object"):
        dataclasses.replace(pool, true=[Boxes.empty()] * 120)


def test_a_round_has_its_slice_by_chance_once(fakes, tmp_path, monkeypatch):
    shares = []

    def noted(candidates, config):
        shares.append((config.seed % 100, config.audit_share))
        return rank(candidates, config)

    monkeypatch.setattr("engine.simulation.replay.rank", noted)
    run(fakes, tmp_path, config=ReplayConfig(start=400, budgets=(500, 500), noise=0.0))
    first, further = ([share for batch, share in shares if (batch == 0) == begun] for begun in (True, False))
    assert set(first) == {0.1}
    assert set(further) == {0.0}


def test_settings_of_the_selection_reach_it(fakes, tmp_path):
    config = CONFIG.model_copy(update={"selection": SelectionConfig(wanted_classes=("plane",))})
    with pytest.raises(BadInput, match="wanted class 'plane'"):
        run(fakes, tmp_path, config=config)


def test_candidates_know_nothing_of_tiles_that_are_not_labelled(fakes):
    pool = fakes.pool()
    rows = np.array([3, 50])
    candidates = pool.candidates(rows, None)
    assert candidates.reviewed.sum() == 2
    assert set(candidates.known.tile_index.tolist()) <= {3, 50}
    assert len(candidates.known) == sum(len(pool.true[row]) for row in rows)

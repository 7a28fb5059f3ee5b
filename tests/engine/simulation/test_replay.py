"""Replays: the same start for all, budgets that hold, no look at what nobody paid for, and a crash costs nothing."""

import dataclasses
import json

import numpy as np
import pytest

from engine.boxes import Boxes
from engine.errors import BadInput, Cancelled, NothingToDo
from engine.progress import silent
from engine.selection.config import SelectionConfig
from engine.selection.cost import Prices
from engine.selection.strategies import STRATEGIES
from engine.simulation.replay import ReplayConfig, replay, replay_all_labels

CONFIG = ReplayConfig(start=400, budgets=(300, 300))


@pytest.fixture
def fakes(fake):
    return fake("replayed")


def run(fakes, path, strategy="tilehawk", *, seed=0, config=CONFIG, pool=None, learner=None, progress=silent):
    pool = pool or fakes.pool()
    return replay(pool, learner or fakes.CountingLearner(pool), config, strategy, seed, path / f"{strategy}-{seed}.json", progress=progress)


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


def test_a_start_that_pays_for_nothing_is_refused(fakes, tmp_path):
    with pytest.raises(NothingToDo, match="pays for no tile"):
        run(fakes, tmp_path, config=ReplayConfig(start=1.0))


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

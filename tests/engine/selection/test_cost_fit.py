"""Fitted prices: what many visits say, what few, what idle and broken ones; the same in any order and on any scale."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import BadInput
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig, Visits, fit_prices, worked_seconds

PRIORS = Prices()
SLOW = Prices(open=9, verify=5, edit=12, draw=40, delete=4)
ACTS = ("open", "verify", "edit", "draw", "delete")
LEARN_AT_ONCE = CostFitConfig(minimum_visits=1)


def work(prices, count, *, seed=0, noise=0.3, idle=0.0):
    """Visits of somebody who has these prices: tiles of all kinds, some left lying for minutes."""
    generator = np.random.default_rng(seed)
    verified, edited, drawn, deleted = (generator.poisson(mean, count).astype(float) for mean in (5, 2, 3, 1))
    seconds = prices.seconds(verified, edited, drawn, deleted) * generator.lognormal(-(noise**2) / 2, noise, count)
    seconds += (generator.random(count) < idle) * generator.uniform(600, 1800, count)
    return Visits(seconds, verified, edited, drawn, deleted)


def one(seconds, verified=0, edited=0, drawn=0, deleted=0, *, times=1):
    return Visits(*(np.full(times, float(each)) for each in (seconds, verified, edited, drawn, deleted)))


def together(*parts):
    return Visits(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in ("seconds", "verified", "edited", "drawn", "deleted"))
    )


def test_many_visits_give_the_prices_of_whoever_worked():
    found = fit_prices(work(SLOW, 3000, noise=0.15), PRIORS, CostFitConfig()).prices
    assert [getattr(found, act) for act in ACTS] == pytest.approx([getattr(SLOW, act) for act in ACTS], rel=0.12)
    assert found.density == pytest.approx(0, abs=0.02)


def test_visits_that_took_just_what_the_priors_say_leave_them_as_they_are():
    found = fit_prices(work(PRIORS, 200, noise=0), PRIORS, CostFitConfig())
    assert (found.visits, found.idle, found.unusable) == (200, 0, 0)
    assert [getattr(found.prices, act) for act in ACTS] == pytest.approx([getattr(PRIORS, act) for act in ACTS])


@pytest.mark.parametrize("count", [0, 9])
def test_with_too_few_visits_the_priors_stay(count):
    found = fit_prices(work(SLOW, count), PRIORS, CostFitConfig())
    assert (found.prices, found.visits) == (PRIORS, 0)


def test_three_wild_visits_move_the_prices_less_than_they_say():
    found = fit_prices(one(300, drawn=5, times=3), PRIORS, LEARN_AT_ONCE).prices
    assert PRIORS.draw < found.draw < 0.75 * (300 - PRIORS.open) / 5


def test_the_more_visits_the_nearer_to_what_they_say():
    distance = [abs(fit_prices(work(SLOW, count, noise=0), PRIORS, LEARN_AT_ONCE).prices.draw - SLOW.draw) for count in (3, 10, 30, 300)]
    assert distance == sorted(distance, reverse=True)
    assert distance[-1] < 0.5


def test_an_act_is_held_by_how_little_was_seen_of_it():
    config = CostFitConfig(minimum_visits=1, winsorise=1)
    edited, verified = one(4 + 5 * 6, edited=5, times=200), one(4 + 5 * 8, verified=5, times=2)
    found = fit_prices(together(edited, verified), PRIORS, config).prices
    assert found.edit == pytest.approx(6, rel=0.05)
    assert 3 < found.verify < 7
    found = fit_prices(together(edited, *[verified] * 100), PRIORS, config).prices
    assert (found.edit, found.verify) == pytest.approx((6, 8), rel=0.05)


def test_an_act_that_was_never_seen_moves_with_the_pace_of_the_others():
    twice = together(work(PRIORS.scaled(2), 300), one(2 * (4 + 3 * 12), drawn=3, times=300))
    twice = Visits(twice.seconds - 2 * PRIORS.delete * twice.deleted, twice.verified, twice.edited, twice.drawn, np.zeros(600))
    assert fit_prices(twice, PRIORS, CostFitConfig()).prices.delete == pytest.approx(2 * PRIORS.delete, rel=0.15)


def test_visits_without_acts_tell_what_opening_takes():
    assert fit_prices(together(one(10, times=300), work(PRIORS, 50)), PRIORS, CostFitConfig()).prices.open == pytest.approx(10, rel=0.1)


def test_idle_visits_are_cut_and_leave_the_prices_alone():
    clean = fit_prices(work(SLOW, 400), PRIORS, CostFitConfig())
    lying = fit_prices(work(SLOW, 400, idle=0.05), PRIORS, CostFitConfig())
    assert lying.idle > 5
    assert lying.prices.draw == pytest.approx(clean.prices.draw, rel=0.1)
    assert lying.prices.open == pytest.approx(clean.prices.open, rel=0.2)


def test_a_short_visit_is_never_idle():
    assert fit_prices(together(one(4, times=30), one(59, times=1)), PRIORS, CostFitConfig()).idle == 0
    assert fit_prices(together(one(4, times=30), one(61, times=1)), PRIORS, CostFitConfig()).idle == 1


def test_people_who_draw_slowly_among_many_who_look_are_not_taken_for_idle():
    """Empty tiles take a tenth of what the priors say, a drawn box ten times as much: the pace of most says that the others are idle."""
    found = fit_prices(together(one(1, times=60), one(1 + 2 * 100, drawn=2, times=30)), PRIORS, CostFitConfig())
    assert found.idle == 0
    assert found.prices.draw == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("seconds", [np.nan, np.inf, 0.0, -3.0])
def test_seconds_that_say_nothing_are_counted_and_left_out(seconds):
    known = work(SLOW, 40)
    found = fit_prices(together(one(seconds, drawn=2, times=5), known), PRIORS, CostFitConfig())
    assert found.unusable == 5
    assert found.prices == fit_prices(known, PRIORS, CostFitConfig()).prices


def test_crowded_tiles_that_take_long_give_a_density():
    drawn = np.arange(600) % 60
    nothing, crowded = np.zeros(600), Prices(density=0.2)
    visits = Visits(crowded.seconds(nothing, nothing, drawn, nothing), nothing, nothing, drawn, nothing)
    found = fit_prices(visits, PRIORS, CostFitConfig()).prices
    assert found.density > 0.1
    assert visits.expected(found)[30:] == pytest.approx(visits.seconds[30:], rel=0.1)
    assert fit_prices(visits, crowded, CostFitConfig()).prices.density == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ((np.ones(2), np.ones(2), np.ones(3), np.ones(2), np.ones(2)), r"shapes .*\(3,\)"),
        ((np.ones(2), np.array([1, -1]), np.ones(2), np.ones(2), np.ones(2)), r"visit 1 with \[-1.0, 1.0, 1.0, 1.0\]"),
        ((np.ones(2), np.ones(2), np.ones(2), np.array([np.nan, 1]), np.ones(2)), "visit 0 with"),
    ],
)
def test_visits_that_cannot_be_are_refused(broken, found):
    with pytest.raises(BadInput, match=found):
        Visits(*broken)


def test_worked_seconds_leave_out_idle_ones_and_cap_the_longest():
    visits = together(one(16, drawn=1, times=30), one(40, drawn=1), one(1000, drawn=1), one(np.nan, drawn=1))
    worked = worked_seconds(visits, PRIORS, CostFitConfig())
    assert worked[:30].tolist() == [16] * 30
    assert worked[30] < 40
    assert np.isnan(worked[31:]).all()


numbers = st.integers(min_value=0, max_value=40)
visit = st.tuples(st.floats(min_value=0.1, max_value=3600), numbers, numbers, numbers, numbers)
many = st.lists(visit, min_size=1, max_size=40).map(lambda rows: Visits(*np.array(rows, dtype=float).T))


@settings(deadline=None)
@given(many)
def test_prices_are_never_negative_and_every_tile_costs_something(visits):
    found = fit_prices(visits, PRIORS, LEARN_AT_ONCE).prices
    assert all(getattr(found, act) >= 0.01 * getattr(PRIORS, act) * 0.999 for act in ACTS)
    assert found.density >= 0


@settings(deadline=None)
@given(many, st.randoms(use_true_random=False))
def test_any_order_gives_the_very_same_prices(visits, chance):
    order = np.array(chance.sample(range(len(visits.seconds)), len(visits.seconds)))
    assert fit_prices(visits.take(order), PRIORS, LEARN_AT_ONCE) == fit_prices(visits, PRIORS, LEARN_AT_ONCE)


@settings(deadline=None)
@given(many)
def test_twice_the_seconds_beside_twice_the_priors_are_twice_the_prices(visits):
    slower = Visits(2 * visits.seconds, visits.verified, visits.edited, visits.drawn, visits.deleted)
    config = LEARN_AT_ONCE
    once = fit_prices(visits, PRIORS, config)
    twice = fit_prices(slower, PRIORS.scaled(2), config.model_copy(update={"idle_seconds": 2 * config.idle_seconds}))
    assert twice.visits == once.visits
    assert [getattr(twice.prices, name) for name in Prices.model_fields] == pytest.approx(
        [2 * getattr(once.prices, name) for name in Prices.model_fields], rel=1e-6, abs=1e-9
    )

"""The plan of a run and its rates."""

import itertools

import pytest
import torch

from engine.errors import UsageError
from engine.training.augment import AugmentConfig
from engine.training.schedule import PretrainScheduleConfig, ScheduleConfig, plan_steps, rate, uses_bf16


def curve(**values):
    config = ScheduleConfig(warmup_steps=0, **values)
    return [rate(step, 100, config) for step in range(100)]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {0: 1.0, 50: 0.505, 99: 0.01}),
        ({"final_rate": 0.0}, {50: 0.5, 99: 0.0}),
        ({"curve": "step", "step_at": (0.5, 0.8)}, {0: 1.0, 49: 1.0, 50: 0.1, 79: 0.1, 80: 0.01, 99: 0.01}),
        ({"curve": "flat_cosine", "flat_share": 0.6}, {0: 1.0, 60: 1.0, 80: 0.505, 99: 0.01}),
    ],
)
def test_rates_follow_their_curve(values, expected):
    rates = curve(**values)
    assert {step: pytest.approx(rates[step], abs=2e-3) for step in expected} == expected
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize("kind", ["cosine", "step", "flat_cosine"])
def test_warm_up_is_linear(kind):
    config = ScheduleConfig(warmup_steps=10, curve=kind, final_rate=1.0)
    assert [rate(step, 1000, config) for step in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])


def test_every_image_of_a_plan_without_mosaics_is_one_tile():
    plan = plan_steps(ScheduleConfig(images_seen=10, batch_size=4))
    assert [(step.first, step.end) for step in plan] == [(0, 4), (4, 8), (8, 12)]
    assert {step.parts for step in plan} == {(1, 1, 1, 1)}


def test_mosaics_count_four_and_stop_before_the_end():
    config = ScheduleConfig(images_seen=4000, batch_size=4, augment=AugmentConfig(mosaic=0.5, mosaic_until=0.75))
    plan = plan_steps(config)
    assert all(step.end == following.first for step, following in itertools.pairwise(plan))
    assert 4000 <= plan[-1].end < 4016
    early, late = ([part for step in plan for part in step.parts if (step.first < 3000) == first] for first in (True, False))
    assert set(late) == {1}
    assert set(early) == {1, 4}
    assert early.count(4) / len(early) == pytest.approx(0.5, abs=0.05)
    assert plan == plan_steps(config)
    assert plan != plan_steps(config.model_copy(update={"seed": 1}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"step_at": (0.8, 0.5)}, "rising shares"),
        ({"step_at": (0.5, 1.0)}, "rising shares"),
        ({"patience": 3}, "set evaluate_every too"),
    ],
)
def test_a_schedule_that_makes_no_sense_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        ScheduleConfig.from_mapping(values)


def test_the_precision_that_is_asked_for_is_taken_and_auto_asks_the_processor(monkeypatch):
    cpu = torch.device("cpu")
    assert (uses_bf16("fp32", cpu), uses_bf16("bf16", cpu)) == (False, True)
    for able, expected in (({"amx_bf16": True}, True), ({"avx512_bf16": True}, True), ({"avx512_f": True, "amx_bf16": False}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able)
        assert uses_bf16("auto", cpu) is expected


@pytest.mark.parametrize(("passes", "tiles", "expected"), [(0, 10_000, 2400), (6, 100, 2400), (6, 1000, 6000), (1.5, 1601, 2402)])
def test_a_run_grows_with_its_tiles_where_each_is_to_be_seen_so_often(passes, tiles, expected):
    assert ScheduleConfig(images_seen=2400, passes=passes).over(tiles).images_seen == expected


@pytest.mark.parametrize(("tiles", "expected"), [(1, 2400), (600, 2400), (1000, 4000)])
def test_nobody_need_say_how_much_a_run_sees(tiles, expected):
    assert ScheduleConfig().over(tiles).images_seen == expected
    assert ScheduleConfig(passes=6).over(1000).images_seen == 6000


@pytest.mark.parametrize("given", [PretrainScheduleConfig(), ScheduleConfig(), {"batch_size": 4}])
def test_a_run_without_labels_sees_as_much_of_a_large_archive_as_of_a_small_one(given):
    assert PretrainScheduleConfig.model_validate(given).over(100_000).images_seen == 2400


def test_a_backbone_learns_slower_without_labels_unless_it_is_told_to():
    plain = ScheduleConfig(images_seen=8)
    assert PretrainScheduleConfig(images_seen=8).backbone_learning_rate < plain.backbone_learning_rate
    assert PretrainScheduleConfig.model_validate(plain).model_dump() == plain.model_dump()
    assert PretrainScheduleConfig.model_validate({"backbone_learning_rate": 1e-3}).backbone_learning_rate == 1e-3

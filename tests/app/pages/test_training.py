"""What the training page does, without a browser."""

from __future__ import annotations

import pytest

from app.pages import training
from app.pages.training import BESIDE, NOTHING, PRESETS, TASKS
from engine.catalog.models import add_model
from engine.errors import UsageError
from engine.stages.finetune import FinetuneConfig
from engine.stages.one_shot import OneShotTrainingConfig
from engine.stages.pretrain import PretrainConfig


def labels(part):
    return [label for label, task in TASKS.items() if part in task]


@pytest.fixture
def actions(context):
    return training.Actions(context)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_can_be_queued_alone(context, actions, task):
    assert "queued" in actions.pretrain([task], 40, False)
    (job,) = context.jobs.queued
    config = PretrainConfig.from_mapping(job.config)
    assert (job.verb, config.schedule.images_seen, config.freeze_backbone) == ("pretrain", 40, True)
    assert [part for part in ("patches", "encoder", "regions") if getattr(config, part)] == list(TASKS[task])


def test_tasks_of_different_kinds_go_side_by_side(context, actions):
    actions.pretrain([labels("patches")[0], labels("encoder")[0], labels("regions")[0]], 40, True)
    config = PretrainConfig.from_mapping(context.jobs.queued[0].config)
    assert config.patches
    assert config.encoder
    assert config.regions
    assert not config.freeze_backbone


@pytest.mark.parametrize("part", ["encoder", "regions"])
def test_two_of_one_kind_or_none_are_refused(context, actions, part):
    with pytest.raises(UsageError, match="two tasks of one kind"):
        actions.pretrain(labels(part)[:2], 40, False)
    with pytest.raises(UsageError, match="no task"):
        actions.pretrain([], 40, False)
    assert not context.jobs.queued


def test_an_emptied_field_is_named(context, actions):
    with pytest.raises(UsageError, match="no number of training images"):
        actions.pretrain([*TASKS][:1], None, True)
    assert not context.jobs.queued


@pytest.mark.parametrize("act", [lambda do, images: do.finetune(images, NOTHING, False), lambda do, images: do.one_shot(images)])
def test_how_much_a_run_with_labels_sees_may_be_left_open(context, actions, act):
    for left_open in (None, 0):
        act(actions, left_open)
        assert context.jobs.queued[-1].config["schedule"] == {}
    with pytest.raises(UsageError, match="-3 as the number of training images"):
        act(actions, -3)
    assert len(context.jobs.queued) == 2


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_queued_as_it_fills_the_details(context, actions, preset):
    tasks, backbone = actions.preset(preset)
    actions.pretrain(tasks, 40, backbone)
    config = PretrainConfig.from_mapping(context.jobs.queued[0].config)
    assert config.freeze_backbone != backbone
    assert [part for part in ("patches", "encoder", "regions") if getattr(config, part)] == [part for task in tasks for part in TASKS[task]]


@pytest.mark.parametrize("beside", BESIDE)
def test_fine_tuning_may_have_a_task_beside_it(context, actions, beside):
    actions.finetune(400, beside, False)
    config = FinetuneConfig.from_mapping(context.jobs.queued[0].config)
    assert (config.schedule.images_seen, config.start, bool(config.encoder)) == (400, None, beside != NOTHING)


def test_the_newest_detector_teaches(context, actions):
    with pytest.raises(UsageError, match="no detector"):
        actions.finetune(400, NOTHING, True)
    with context.workspace.session() as session:
        for name, stage in (("first", "finetune"), ("second", "finetune"), ("asked", "one-shot")):
            add_model(session, name=name, stage=stage, config={}, data_hash="0" * 64)
    actions.finetune(400, NOTHING, True)
    config = FinetuneConfig.from_mapping(context.jobs.queued[0].config)
    assert config.start == "second"
    assert config.self_training


def test_one_shot_training_is_queued(context, actions):
    actions.one_shot(80)
    (job,) = context.jobs.queued
    assert (job.verb, OneShotTrainingConfig.from_mapping(job.config).schedule.images_seen) == ("one-shot", 80)


def test_a_run_shows_its_curves_and_first_middle_and_last_pictures(context, actions):
    assert "No training run" in actions.refresh(None)[2]
    folder = context.workspace.reports / "training" / "pretrain-1"
    (folder / "pictures").mkdir(parents=True)
    (folder / "log.csv").write_text("step,images_seen,loss\n")
    assert "not finished a step" in actions.refresh(None)[2]
    (folder / "log.csv").write_text("step,images_seen,loss\n1,4,2.5\n2,1200,2.0\n")
    choice, beside, curves, pictures = actions.refresh("gone", "gone too")
    assert (choice["choices"], choice["value"]) == (["pretrain-1"], "pretrain-1")
    assert (beside["choices"], beside["value"]) == ([training.ALONE, "pretrain-1"], training.ALONE)
    assert "/training/pretrain-1/curves.png?seen=1200" in curves
    assert "draws no pictures" in pictures
    for seen in (600, 1200, 1800, 2400, 3000):
        (folder / "pictures" / f"encoder-{seen:08d}.png").write_bytes(b"png")
    (folder / "pictures" / "patches-00000600.png").write_bytes(b"png")
    (folder / "pictures" / "asked-00000600.png").write_bytes(b"png")
    pictures = actions.show("pretrain-1")[1]
    assert pictures.count("<img") == 5
    assert "what the crop in the corner finds" in pictures
    assert "after 1,800 images" in pictures
    assert "encoder-00002400" not in pictures


def test_two_runs_are_drawn_beside_each_other(context, actions):
    for name, seen in (("pretrain-1", 1200), ("pretrain-2", 800)):
        folder = context.workspace.reports / "training" / name
        folder.mkdir(parents=True)
        (folder / "log.csv").write_text(f"step,images_seen,loss\n1,{seen},2.5\n")
    _, beside, curves, _ = actions.refresh("pretrain-1", "pretrain-2")
    assert beside["value"] == "pretrain-2"
    assert "/training/pretrain-1/curves.png?seen=1200-800&amp;beside=pretrain-2" in curves
    assert "pretrain-2 after 800" in curves
    assert "beside=" not in actions.show("pretrain-1", "pretrain-1")[0]
    assert "beside=" not in actions.show("pretrain-1", training.ALONE)[0]

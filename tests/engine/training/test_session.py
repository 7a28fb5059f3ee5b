"""Whole runs of a task that is learned in microseconds: what resumes, what is looked at, what is logged."""

import csv
import itertools

import pytest
import torch

from engine.errors import BadInput, Cancelled
from engine.progress import silent
from engine.training.augment import AugmentConfig
from engine.training.checkpoint import CheckpointStore
from engine.training.journal import LOG_NAME
from engine.training.loop import train


@pytest.fixture(scope="module")
def small(fake):
    return fake("training")


def looks(values):
    """A look at the dev tiles that answers with ``values`` one after another."""
    answers = itertools.chain(values, itertools.repeat(0.0))
    return lambda: next(answers)


def trained(small, *, task=None, tiles=6, unreadable=(), store=None, progress=silent, evaluate_dev=None, log=None, **changes):
    """The task after training, and the report."""
    task = task or small.Counting()
    source = small.tiles(tiles, unreadable=unreadable)
    run = train(task, source, small.schedule(**changes), checkpoints=store, progress=progress, evaluate_dev=evaluate_dev, log=log)
    return task, run


def weights(task):
    return {name: weight.clone() for name, weight in task.model.state_dict().items()}


def equal(one, other):
    return all(torch.equal(weight, other[name]) for name, weight in one.items())


@pytest.mark.parametrize("changes", [{}, {"micro_batch": 3}, {"augment": AugmentConfig(mosaic=0.5)}], ids=["plain", "parts", "mosaic"])
def test_a_run_is_the_same_with_and_without_the_thread_that_reads_ahead(small, changes):
    (one, run), (other, again) = (trained(small, prefetch=threads, **changes) for threads in (0, 1))
    assert run.losses == again.losses
    assert equal(weights(one), weights(other))


def interrupted(small, tmp_path, at, **changes):
    """Stopped after ``at`` images, then taken up again."""
    with pytest.raises(Cancelled):
        trained(small, store=CheckpointStore(tmp_path), progress=small.StopAt(at), **changes)
    return trained(small, store=CheckpointStore(tmp_path), **changes)


SETTINGS = {
    "mosaic": {"augment": AugmentConfig(mosaic=0.5), "images_seen": 100},
    "micro-batches": {"micro_batch": 3},
    "unreadable": {"unreadable": [1], "max_unreadable": 0.5},
    "flat cosine, undecayed": {"curve": "flat_cosine", "decay_norms_and_biases": False},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.guarantee("G1")
@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_resumes_to_the_bit(small, tmp_path, name):
    whole, run = trained(small, **SETTINGS[name])
    task, resumed = interrupted(small, tmp_path, 20, **SETTINGS[name])
    assert 0 < resumed.resumed_at < run.steps
    assert resumed.losses == run.losses
    assert equal(weights(task), weights(whole))


@pytest.mark.guarantee("G1")
def test_a_resumed_run_keeps_the_best_average_of_before(small, tmp_path):
    values = [0.1, 0.5, 0.2, 0.3, 0.4]
    whole, run = trained(small, evaluate_every=8, evaluate_dev=looks(values))
    with pytest.raises(Cancelled):
        trained(small, store=CheckpointStore(tmp_path), progress=small.StopAt(24), evaluate_every=8, evaluate_dev=looks(values))
    task, resumed = trained(small, store=CheckpointStore(tmp_path), evaluate_every=8, evaluate_dev=looks(values[3:]))
    assert resumed.dev == run.dev == [(8 * number, value) for number, value in enumerate(values, start=1)]
    assert equal(weights(task), weights(whole))
    last, _ = trained(small)
    assert not equal(weights(task), weights(last))


def test_what_is_kept_is_the_average_at_the_best_look(small):
    task, seen = small.Counting(), []

    def look():
        seen.append(weights(task))
        return [0.1, 0.5, 0.2, 0.5, 0.4][len(seen) - 1]

    _, run = trained(small, task=task, evaluate_every=8, evaluate_dev=look)
    assert equal(weights(task), seen[1])
    assert not run.stopped_early
    assert run.losses == trained(small)[1].losses


def test_training_stops_when_the_dev_ap_has_not_risen_for_long(small, tmp_path):
    _, run = trained(
        small,
        evaluate_every=4,
        patience=2,
        evaluate_dev=looks([0.1, 0.3, 0.2, 0.3, 0.9]),
        log=tmp_path,
        store=CheckpointStore(tmp_path / "run"),
    )
    assert (run.steps, run.images_seen, run.stopped_early) == (4, 16, True)
    assert [value for _, value in run.dev] == [0.1, 0.3, 0.2, 0.3]


def test_a_run_that_was_cancelled_where_it_would_have_stopped_stops_when_resumed(small, tmp_path):
    options = {"evaluate_every": 4, "patience": 2}
    with pytest.raises(Cancelled):
        trained(small, store=CheckpointStore(tmp_path), progress=small.StopAt(12), evaluate_dev=looks([0.3, 0.2, 0.1]), **options)
    _, run = trained(small, store=CheckpointStore(tmp_path), evaluate_dev=looks([0.9]), **options)
    assert (run.steps, run.stopped_early, len(run.dev)) == (3, True, 3)


def test_without_somebody_who_looks_the_last_average_is_kept(small):
    assert equal(weights(trained(small, evaluate_every=8)[0]), weights(trained(small)[0]))


@pytest.mark.guarantee("G30")
def test_a_lack_of_memory_is_reported_logged_and_remembered(small, tmp_path):
    task, run = trained(small, task=small.Counting(holds=2), log=tmp_path)
    assert run.micro_batches == [(0, 2)]
    with (tmp_path / LOG_NAME).open(newline="") as stream:
        assert {row["micro_batch"] for row in csv.DictReader(stream)} == {"2"}
    store = CheckpointStore(tmp_path / "run")
    with pytest.raises(Cancelled):
        trained(small, task=small.Counting(holds=2), store=store, progress=small.StopAt(20))
    roomy = small.Counting()
    resumed, again = trained(small, task=roomy, store=store)
    assert max(roomy.sizes) == 2
    assert again.losses == run.losses
    assert equal(weights(resumed), weights(task))


@pytest.mark.guarantee("G29")
def test_a_broken_loss_names_the_tiles_and_leaves_the_batch(small, tmp_path):
    with pytest.raises(
        BadInput, match=r"the loss is nan at step 3 \(parts \['counts'\]\), on the tiles tile-\d, .*not-finite-step-00000003"
    ):
        trained(small, task=small.Counting(broken="loss", at=3), log=tmp_path)
    assert (tmp_path / "not-finite-step-00000003" / "bundle.json").is_file()


def test_unreadable_tiles_are_reported_by_name(small):
    _, run = trained(small, unreadable=[4], max_unreadable=0.2)
    assert list(run.unreadable) == ["tile-4"]
    assert "cut off" in run.unreadable["tile-4"]


def test_the_log_has_a_line_a_step_with_what_matters(small, tmp_path):
    _, run = trained(small, log=tmp_path, evaluate_every=20, evaluate_dev=looks([0.25, 0.5]))
    with (tmp_path / LOG_NAME).open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [int(line["step"]) for line in lines] == list(range(1, 11))
    assert [float(line["loss"]) for line in lines] == run.losses
    assert [line["dev_ap"] for line in lines if line["dev_ap"]] == ["0.25", "0.5"]
    assert all(len(line["tiles"].split()) == 4 and float(line["images_per_second"]) > 0 for line in lines)
    assert float(lines[-1]["loss.counts"]) == run.losses[-1]


def test_the_log_of_a_resumed_run_has_every_step_once(small, tmp_path):
    with pytest.raises(Cancelled):
        trained(small, store=CheckpointStore(tmp_path / "run"), log=tmp_path, progress=small.StopAt(16))
    _, run = trained(small, store=CheckpointStore(tmp_path / "run"), log=tmp_path)
    with (tmp_path / LOG_NAME).open(newline="") as stream:
        assert [float(line["loss"]) for line in csv.DictReader(stream)] == run.losses


def test_images_seen_count_the_tiles_of_mosaics(small):
    told = []
    _, run = trained(
        small,
        augment=AugmentConfig(mosaic=1.0, mosaic_until=0.5),
        images_seen=64,
        progress=lambda done, total, message: told.append((done, total)),
    )
    assert [done for done, _ in told] == [16, 32, *range(36, 65, 4)]
    assert {total for _, total in told} == {64}
    assert run.images_seen == 64

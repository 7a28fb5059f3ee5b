"""The learner trains a real detector, keeps it, and does not train it twice."""

import numpy as np
import pytest

from engine.errors import Cancelled
from engine.models.detector import Detector
from engine.progress import silent
from engine.simulation.learner import DetectorLearner
from engine.simulation.pool import LabelledPool
from engine.simulation.replay import ReplayConfig, replay
from engine.training.data import TileSamples
from engine.training.loop import seeded


@pytest.fixture
def squares(fake):
    return fake("squares")


@pytest.fixture
def world(squares, tmp_path):
    """A pool of eight pictures and four to be measured on, and what makes a learner of them."""
    pictures = [squares.picture(seed) for seed in range(12)]
    pixels, boxes = [picture[0] for picture in pictures], [picture[1] for picture in pictures]
    pool = LabelledPool(np.arange(8), np.arange(8), np.tile([0.0, 0, 64, 64], (8, 1)), boxes[:8], squares.LABELS)

    def build():
        with seeded(0):
            return Detector(squares.TINY, 2)

    def learner(images_seen=8, folder=tmp_path / "runs", **extents):
        return DetectorLearner(
            build,
            TileSamples(pixels[:8], boxes[:8], 64),
            pool.tile_ids,
            TileSamples(pixels[8:], boxes[8:], 64),
            boxes[8:],
            squares.LABELS,
            schedule=squares.schedule(images_seen=images_seen),
            folder=folder,
            **extents,
        )

    return pool, learner


def test_what_was_learned_is_kept_and_measured_the_same(world, squares):
    pool, learner = world
    rows = np.array([1, 5])
    first = learner()
    looks = first.learn("a", rows, [pool.true[row] for row in rows], silent)
    found, measured = first.predict("a", silent), first.measure("a", silent)
    told = []
    again = learner()
    known = again.learn("a", rows, [pool.true[row] for row in rows], lambda done, total, message: told.append(message))
    assert looks == known == 8 / 2
    assert told == []
    assert found.tile_ids.tolist() == list(range(8))
    np.testing.assert_array_equal(again.predict("a", silent).embeddings, found.embeddings)
    assert again.measure("a", silent) == measured
    assert 0 <= measured.ap50 <= 1
    assert set(measured.ap50_per_class) == {"red", "green"}
    assert measured.test_boxes == sum(len(squares.picture(seed)[1]) for seed in range(8, 12))


def test_boxes_end_where_a_tile_does(world, tmp_path):
    pool, learner = world
    rows, boxes = np.array([1, 5]), [pool.true[1], pool.true[5]]
    narrow = learner(folder=tmp_path / "narrow", extents=[(40, 64)] * 7 + [(64, 20)])
    narrow.learn("a", rows, boxes, silent)
    found = narrow.predict("a", silent)
    assert found.of_tile(0).xyxy[:, 2].max() <= 40
    assert found.of_tile(7).xyxy[:, 3].max() <= 20
    assert found.of_tile(0).xyxy[:, 3].max() > 40


def test_learning_that_was_stopped_goes_on_and_ends_the_same(world, tmp_path):
    pool, learner = world
    rows, boxes = np.array([1, 5]), [pool.true[1], pool.true[5]]

    def stop(done, total, message):
        if done >= 6:
            raise Cancelled("stopped by the user")

    cut, whole = learner(images_seen=12, folder=tmp_path / "cut"), learner(images_seen=12, folder=tmp_path / "whole")
    with pytest.raises(Cancelled):
        cut.learn("a", rows, boxes, stop)
    cut.learn("a", rows, boxes, silent)
    whole.learn("a", rows, boxes, silent)
    np.testing.assert_array_equal(cut.predict("a", silent).embeddings, whole.predict("a", silent).embeddings)


def test_a_replay_with_a_detector_runs_end_to_end(world, tmp_path):
    pool, learner = world
    config = ReplayConfig(start=150, budgets=(100,))
    rounds = replay(pool, learner(), config, "tilehawk", 0, tmp_path / "tilehawk-0.json", progress=silent)
    assert len(rounds) == 2
    assert rounds[1].tiles > rounds[0].tiles

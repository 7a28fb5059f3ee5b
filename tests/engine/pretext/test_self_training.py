"""Self-training: what a model believes of tiles, and which of them are learned."""

import pytest
import torch

from engine.models.detector import Detector
from engine.pretext.self_training import SelfTrainingConfig, believe, with_believed
from engine.pretext.tile_boxes import TileBoxes
from engine.training.loop import seeded


@pytest.fixture
def teacher(squares):
    with seeded(0):
        return Detector(squares.TINY, 2).eval()


def believed(boxes):
    return TileBoxes([torch.rand(count, 4) for count in boxes], [torch.zeros(count, dtype=torch.long) for count in boxes])


def test_only_boxes_of_the_score_are_believed(squares, teacher):
    source = squares.samples(3)
    many, none = (believe(teacher, source, SelfTrainingConfig(least_score=score)) for score in (0.001, 0.999))
    assert min(len(boxes) for boxes in many.boxes) > 0
    assert [len(boxes) for boxes in none.boxes] == [0, 0, 0]
    assert all(len(boxes) == len(labels) for boxes, labels in zip(many.boxes, many.labels, strict=True))


def test_nothing_is_believed_of_a_tile_that_cannot_be_read(squares, fake, teacher):
    config = SelfTrainingConfig(least_score=0.001)
    source = squares.samples(12)
    whole = believe(teacher, source, config)
    torn = believe(teacher, fake("training").Torn(source, [2, 9]), config)
    assert [len(torn.boxes[index]) for index in (2, 9)] == [0, 0]
    assert torch.allclose(torn.boxes[11], whole.boxes[11], atol=1e-3)


def test_what_is_believed_lies_in_the_tile_and_not_in_the_padding(squares, teacher):
    source, extents = squares.samples(3), [(64.0, 64.0), (40.0, 24.0), (64.0, 30.0)]
    found = believe(teacher, source, SelfTrainingConfig(least_score=0.001), extents=extents)
    for boxes, (width, height) in zip(found.boxes, extents, strict=True):
        assert len(boxes)
        assert boxes[:, 2].max() <= width
        assert boxes[:, 3].max() <= height


@pytest.mark.parametrize(("labelled", "pool", "times"), [(2, 60, 10), (2, 3, 1), (5, 40, 3)])
def test_a_quarter_of_what_is_seen_is_labelled_unless_another_share_is_asked_for(squares, labelled, pool, times):
    said = believed([1] * pool)
    joined = with_believed(squares.samples(labelled), squares.samples(pool), said, SelfTrainingConfig())
    assert len(joined) == labelled * times + pool
    asked = with_believed(squares.samples(labelled), squares.samples(pool), said, SelfTrainingConfig(labelled_times=1))
    assert len(asked) == labelled + pool


def test_tiles_without_a_belief_are_left_out_unless_they_count_as_empty(squares):
    labelled, pool, said = squares.samples(2), squares.samples(3), believed([2, 0, 1])
    assert len(with_believed(labelled, pool, said, SelfTrainingConfig())) == 4
    assert len(with_believed(labelled, pool, said, SelfTrainingConfig(empty_tiles=True, labelled_times=3))) == 9


def test_absence_counts_less_on_believed_tiles_alone(squares):
    believed = TileBoxes([torch.ones(1, 4)], [torch.zeros(1, dtype=torch.long)])
    joined = with_believed(squares.samples(1), squares.samples(1), believed, SelfTrainingConfig(absence=0.5))
    assert sorted({joined.sample(index).absence for index in range(len(joined))}) == [0.5, 1.0]


def test_a_believed_tile_has_the_boxes_of_the_model(squares):
    said = believed([2, 0, 1])
    joined = with_believed(squares.samples(2), squares.samples(3), said, SelfTrainingConfig())
    assert torch.equal(joined.sample(3).boxes, said.boxes[2])
    assert joined.name(3) == squares.samples(3).name(2)

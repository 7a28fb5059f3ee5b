"""One-to-many assignment, on cases small enough to compute by hand."""

import pytest
import torch

from engine.models.assignment import align_tasks, assign_centres, assign_overlaps
from engine.models.position import token_centres


def assign(boxes, targets, *, labels=None, logits=None, centres=None, top=10, reach=None):
    boxes, targets = torch.tensor(boxes), torch.tensor(targets)
    return align_tasks(
        torch.zeros(len(boxes), 2) if logits is None else torch.tensor(logits),
        boxes,
        boxes[:, :2] if centres is None else torch.tensor(centres),
        torch.full((len(boxes), 2), 0.01) if reach is None else torch.full((len(boxes), 2), reach),
        torch.zeros(len(targets), dtype=torch.long) if labels is None else torch.tensor(labels),
        targets,
        top=top,
    )


OBJECT = [0.5, 0.5, 0.4, 0.4]
HALF = [0.5, 0.5, 0.4, 0.2]
AWAY = [0.1, 0.1, 0.1, 0.1]


def test_quality_by_hand():
    """The perfect box gets its IoU, 1; the half box 0.5² of it, for alignment goes with the square of the IoU."""
    found = assign([OBJECT, HALF, AWAY], [OBJECT])
    assert found.proposals.tolist() == [0, 1]
    assert found.objects.tolist() == [0, 0]
    assert found.quality.tolist() == pytest.approx([1.0, 0.5**2], abs=1e-5)


def test_the_best_aligned_proposal_gets_the_best_iou():
    found = assign([HALF, HALF], [OBJECT], logits=[[0.0, 0.0], [3.0, 0.0]])
    score = torch.tensor([0.0, 3.0]).sigmoid()
    assert found.quality.tolist() == pytest.approx([0.5 * float(score[0] / score[1]), 0.5], abs=1e-5)


def test_no_more_than_top_proposals_an_object():
    found = assign([HALF, OBJECT, HALF], [OBJECT], top=1)
    assert found.proposals.tolist() == [1]


def test_a_contested_proposal_goes_to_the_object_it_overlaps_most():
    shifted = [0.55, 0.5, 0.4, 0.4]
    found = assign([shifted], [OBJECT, [0.56, 0.5, 0.4, 0.4]])
    assert (found.proposals.tolist(), found.objects.tolist()) == ([0], [1])


def test_scores_of_the_object_s_own_class_count():
    logits = [[5.0, -5.0], [-5.0, 5.0]]
    assert assign([OBJECT, OBJECT], [OBJECT], logits=logits, labels=[1], top=1).proposals.tolist() == [1]
    assert assign([OBJECT, OBJECT], [OBJECT], logits=logits, labels=[0], top=1).proposals.tolist() == [0]


@pytest.mark.parametrize(("reach", "proposals"), [(0.01, []), (0.3, [0])])
def test_a_token_outside_the_object_counts_within_its_reach(reach, proposals):
    small = [0.5, 0.5, 0.02, 0.02]
    assert assign([small], [small], centres=[[0.6, 0.5]], reach=reach).proposals.tolist() == proposals


def test_boxes_that_miss_the_object_are_never_positive():
    found = assign([AWAY], [OBJECT], centres=[[0.5, 0.5]])
    assert len(found.proposals) == len(found.objects) == len(found.quality) == 0


def priors(*sides):
    """Priors three tokens wide on square levels of so many tokens a side."""
    sizes = torch.cat([torch.full((side * side, 2), 3.0 / side) for side in sides])
    return torch.cat([token_centres([(side, side) for side in sides], torch.device("cpu")), sizes], 1)


@pytest.mark.parametrize(("side", "level"), [(0.05, 0), (3 / 16, 0), (3 / 8, 1), (0.9, 1)])
def test_an_object_is_answered_on_the_level_of_its_size(side, level):
    found = assign_centres(priors(16, 8), torch.tensor([[0.5, 0.5, side, side]]))
    assert len(found.proposals) > 0
    assert set((found.proposals >= 256).long().tolist()) == {level}
    assert found.quality.tolist() == [1.0] * len(found.proposals)


def test_positives_lie_within_one_and_a_half_tokens_of_the_centre():
    grid = priors(16)
    found = assign_centres(grid, torch.tensor([[0.5, 0.5, 0.3, 0.3]]))
    away = (grid[found.proposals, :2] - 0.5).abs().max()
    assert len(found.proposals) == 4
    assert away < 1.5 / 16


def test_the_smallest_object_has_a_token():
    found = assign_centres(priors(16, 8), torch.tensor([[0.51, 0.27, 0.001, 0.001]]))
    assert len(found.proposals) == 1


def test_a_token_near_two_objects_answers_for_the_smaller():
    found = assign_centres(priors(16), torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.5, 0.5, 0.15, 0.15]]))
    assert set(found.objects.tolist()) == {1}


def test_queries_answer_for_what_they_start_on():
    boxes = torch.tensor([OBJECT, HALF, AWAY, [0.5, 0.5, 0.38, 0.4]])
    rows, columns = assign_overlaps(boxes, torch.tensor([OBJECT, AWAY]), positive_iou=0.6, best_too=True)
    assert rows.tolist() == [0, 2, 3]
    assert columns.tolist() == [0, 1, 0]


def test_an_object_that_nobody_overlaps_enough_has_its_best_query_on_request():
    starts, objects = torch.tensor([HALF, AWAY]), torch.tensor([OBJECT])
    assert assign_overlaps(starts, objects, positive_iou=0.9, best_too=True)[0].tolist() == [0]
    assert assign_overlaps(starts, objects, positive_iou=0.9, best_too=False)[0].tolist() == []
    assert assign_overlaps(starts[1:], objects, positive_iou=0.1, best_too=True)[0].tolist() == []

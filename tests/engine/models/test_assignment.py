"""One-to-many assignment, on cases small enough to compute by hand."""

import pytest
import torch

from engine.models.assignment import align_tasks


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

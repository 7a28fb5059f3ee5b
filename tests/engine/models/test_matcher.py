"""One-to-one matching."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings, strategies

from engine.errors import BadInput
from engine.models.matcher import hungarian_match, match_costs


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (3, 5), (4, 4), (6, 1)])
def test_no_other_assignment_costs_less(queries, objects, seed):
    cost = torch.rand(queries, objects, generator=torch.Generator().manual_seed(seed)) - 0.5
    rows, columns = hungarian_match(cost)
    few = min(queries, objects)
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == few
    wide = cost if queries <= objects else cost.T
    best = min(sum(wide[row, column] for row, column in enumerate(order)) for order in itertools.permutations(range(wide.shape[1]), few))
    assert cost[rows, columns].sum().item() == pytest.approx(float(best), abs=1e-5)


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_cost_that_is_not_finite_is_refused(broken):
    cost = torch.zeros(3, 2)
    cost[1, 1] = broken
    with pytest.raises(BadInput, match="not finite"):
        hungarian_match(cost)


def test_no_object_is_no_match():
    rows, columns = hungarian_match(torch.zeros(3, 0))
    assert len(rows) == len(columns) == 0


def test_costs_by_hand():
    """Score ½; a box on its object and one beside it: L1 0.4, no overlap, the enclosing box 3/2 of the union, so GIoU −1/3."""
    boxes = torch.tensor([[0.2, 0.5, 0.2, 0.2], [0.6, 0.5, 0.2, 0.2]])
    cost = match_costs(torch.zeros(2, 1), boxes, torch.tensor([0]), boxes[:1])
    focal = (0.25 - 0.75) * 0.25 * math.log(2)
    assert cost[:, 0].tolist() == pytest.approx([2 * focal - 2 * 1, 2 * focal + 5 * 0.4 + 2 / 3], abs=1e-5)


def test_a_surer_query_costs_less():
    boxes = torch.full((3, 4), 0.5)
    cost = match_costs(torch.tensor([[-2.0], [0.0], [2.0]]), boxes, torch.tensor([0]), boxes[:1])[:, 0]
    assert cost[0] > cost[1] > cost[2]


@settings(max_examples=60, deadline=None)
@given(strategies.integers(1, 6), strategies.integers(1, 6), strategies.data())
def test_no_other_assignment_costs_less_whatever_the_costs(queries, objects, data):
    """All permutations, with ties and costs of very different size."""
    whole = strategies.integers(-1000, 1000)
    cost = torch.tensor(data.draw(strategies.lists(whole, min_size=queries * objects, max_size=queries * objects))).view(queries, objects)
    rows, columns = hungarian_match(cost.float())
    few = min(queries, objects)
    wide = cost if queries <= objects else cost.T
    best = min(
        sum(int(wide[row, column]) for row, column in enumerate(order)) for order in itertools.permutations(range(wide.shape[1]), few)
    )
    assert len(set(rows.tolist())) == len(set(columns.tolist())) == few
    assert int(cost[rows, columns].sum()) == best


def test_softmax_costs_by_hand():
    """Odds 2 : 1 : 1 of two classes and no object: the cost of class 0 is −½, that of class 1 −¼; the boxes are exact."""
    box = torch.tensor([[0.5, 0.5, 0.2, 0.2]])
    logits, no_object = torch.tensor([[math.log(2), 0.0]]), torch.zeros(1)
    cost = match_costs(logits, box, torch.tensor([0, 1]), box.expand(2, 4), no_object=no_object)
    assert cost[0].tolist() == pytest.approx([-0.5 - 2, -0.25 - 2], abs=1e-5)

"""The plain proposal head, and queries made of coordinates."""

import pytest
import torch

from engine.models.encoder import Memory
from engine.models.queries import CoordinateQueries, LearnedQueries
from engine.models.two_stage import LinearProposalHead

SHAPES = [(8, 8), (4, 4)]


def head(box_moves):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LinearProposalHead(16, 3, box_moves=box_moves)


def memory():
    return Memory(torch.rand(2, 80, 16, generator=torch.Generator().manual_seed(0)), SHAPES)


def test_priors_double_from_level_to_level():
    priors = head("logit").priors(SHAPES, torch.device("cpu"))
    assert priors[0].tolist() == pytest.approx([1 / 16, 1 / 16, 0.05, 0.05])
    assert priors[64].tolist() == pytest.approx([1 / 8, 1 / 8, 0.1, 0.1])


@torch.no_grad()
@pytest.mark.parametrize("box_moves", ["relative", "logit"])
def test_untrained_boxes_are_the_priors(box_moves):
    found = head(box_moves)(memory())
    assert torch.allclose(found.boxes, found.priors.expand(2, -1, -1), atol=1e-5)
    assert found.logits.shape == (2, 80, 3)


@torch.no_grad()
def test_tokens_at_the_very_edge_describe_nothing():
    """On a map of 64 columns the first centre lies at 1/128, below one hundredth."""
    wide = Memory(torch.rand(1, 64, 16, generator=torch.Generator().manual_seed(0)), [(1, 64)])
    found = head("logit")(wide)
    assert found.boxes[0, 0].tolist() == [1.0, 1.0, 1.0, 1.0]
    assert torch.equal(found.features[0, 0], found.features[0, 63])
    assert not torch.equal(found.features[0, 0], found.features[0, 31])


@torch.no_grad()
def test_coordinate_queries_depend_on_their_box_alone():
    queries = CoordinateQueries(16)
    boxes = torch.tensor([[[0.2, 0.3, 0.1, 0.1], [0.7, 0.3, 0.1, 0.1], [0.2, 0.3, 0.1, 0.1]]])
    made = queries(boxes)
    assert made.content.shape == made.position.shape == (1, 3, 16)
    assert torch.equal(made.content[0, 0], made.content[0, 2])
    assert not torch.allclose(made.position[0, 0], made.position[0, 1])


@torch.no_grad()
def test_learned_queries_start_from_points():
    made = LearnedQueries(5, 16)(2)
    assert made.boxes.shape == (2, 5, 2)
    assert bool(((made.boxes > 0) & (made.boxes < 1)).all())
    assert torch.equal(made.position[0], made.position[1])

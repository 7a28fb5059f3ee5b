"""Where tokens are, and how places are written as numbers."""

import torch

from engine.models.position import sine_embedding, token_centres


def test_centres_go_row_by_row_level_by_level_as_x_y():
    centres = token_centres([(1, 2), (2, 1)], torch.device("cpu"))
    assert centres.tolist() == [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]


def test_embedding_has_its_shape_and_stays_within_one():
    embedded = sine_embedding(torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(0)), 16)
    assert embedded.shape == (2, 5, 64)
    assert embedded.abs().max() <= 1


def test_each_coordinate_has_a_part_of_its_own():
    one, other = sine_embedding(torch.tensor([[0.2, 0.7], [0.2, 0.3]]), 8)
    assert torch.equal(one[:8], other[:8])
    assert not torch.allclose(one[8:], other[8:])


def test_hand_computed_at_a_quarter():
    embedded = sine_embedding(torch.tensor([0.25]), 4, temperature=4.0)
    assert torch.allclose(embedded, torch.tensor([1.0, 0.0, 0.0, -1.0]), atol=1e-6)


def test_near_places_are_nearer_than_far_ones():
    places = torch.linspace(0.1, 0.9, 9)[:, None]
    distance = (sine_embedding(places, 32) - sine_embedding(places[:1], 32)).norm(dim=-1)
    assert distance[1] < distance[4]
    assert (distance[1:] > 0.1).all()

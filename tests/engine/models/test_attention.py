"""Deformable attention against a slow reading of its equation."""

import math

import pytest
import torch

from engine.models.attention import MultiScaleDeformableAttention

SHAPES = [(5, 7), (3, 4)]
TOKENS = sum(height * width for height, width in SHAPES)


def attention(*, heads=2, points=3, levels=2, dimension=8, seed=0):
    """With weights that are not those of the start, so that offsets and shares differ from query to query."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = MultiScaleDeformableAttention(dimension, heads, levels, points)
        for part in (layer.sampling_offsets, layer.attention_weights):
            torch.nn.init.normal_(part.weight, std=0.3)
        return layer


def draw(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def bilinear(grid, x, y):
    """The value at (x, y) in tokens of ``grid`` (height, width, channels), whose token (i, j) lies at (j + ½, i + ½); 0 outside."""
    height, width, _ = grid.shape
    left, top = math.floor(x - 0.5), math.floor(y - 0.5)
    value = torch.zeros(grid.shape[-1])
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < height and 0 <= column < width:
            value += grid[row, column] * (1 - abs(x - 0.5 - column)) * (1 - abs(y - 0.5 - row))
    return value


def slow(layer, query, reference, memory):
    """Equation 3 of Deformable DETR, one point after the other."""
    batch, queries, dimension = query.shape
    channels = dimension // layer.heads
    output = torch.zeros(batch, queries, dimension)
    offsets = layer.sampling_offsets(query).view(batch, queries, layer.heads, layer.levels, layer.points, 2)
    shares = layer.attention_weights(query).view(batch, queries, layer.heads, -1).softmax(-1).view(offsets.shape[:-1])
    value = layer.value_projection(memory)
    for image in range(batch):
        for number in range(queries):
            for head in range(layer.heads):
                start = 0
                for level, (height, width) in enumerate(SHAPES):
                    tokens = value[image, start : start + height * width, head * channels : (head + 1) * channels]
                    start += height * width
                    for point in range(layer.points):
                        offset = offsets[image, number, head, level, point]
                        place = reference[image, number]
                        scale = place[2:] / 2 / layer.points if len(place) == 4 else torch.tensor([1 / width, 1 / height])
                        x, y = (place[:2] + offset * scale).tolist()
                        found = bilinear(tokens.view(height, width, channels), x * width, y * height)
                        output[image, number, head * channels : (head + 1) * channels] += shares[image, number, head, level, point] * found
    return layer.output_projection(output)


@pytest.mark.parametrize("coordinates", [2, 4])
@torch.no_grad()
def test_it_is_the_equation_of_the_paper(coordinates):
    layer = attention()
    query, reference, memory = draw(2, 4, 8), draw(2, 4, coordinates, seed=2), draw(2, TOKENS, 8, seed=3)
    assert torch.allclose(layer(query, reference, memory, SHAPES), slow(layer, query, reference, memory), atol=1e-6)


def test_gradient_reaches_offsets_weights_references_and_memory():
    layer = attention()
    query, reference, memory = draw(1, 3, 8), draw(1, 3, 4).requires_grad_(), draw(1, TOKENS, 8).requires_grad_()
    layer(query, reference, memory, SHAPES).square().sum().backward()
    for gradient in (layer.sampling_offsets.weight.grad, layer.attention_weights.weight.grad, reference.grad, memory.grad):
        assert gradient.abs().sum() > 0


@torch.no_grad()
def test_points_of_an_untrained_layer_reach_the_edge_of_a_box_and_not_beyond():
    """Only the tokens in the box have a say, those on its edge too; and with the first of several points, only the inner ones."""
    layer = MultiScaleDeformableAttention(4, 4, 1, 2)
    size = 16
    reference = torch.tensor([[[0.5, 0.5, 0.5, 0.5]]])
    memory = torch.zeros(1, size * size, 4)
    before = layer(torch.zeros(1, 1, 4), reference, memory, [(size, size)])
    seen = torch.zeros(size, size)
    for token in range(size * size):
        memory.zero_()
        memory[0, token] = 1.0
        seen.view(-1)[token] = (layer(torch.zeros(1, 1, 4), reference, memory, [(size, size)]) - before).abs().sum()
    rows, columns = seen.nonzero().T
    assert (int(columns.min()), int(columns.max()), int(rows.min()), int(rows.max())) == (3, 12, 3, 12)


def test_heads_look_in_different_directions_at_the_start():
    layer = MultiScaleDeformableAttention(16, 8, 1, 1)
    rays = layer.sampling_offsets.bias.view(8, 2)
    assert len({tuple(ray) for ray in (rays * 1000).round().tolist()}) == 8
    assert rays.abs().amax(-1).tolist() == pytest.approx([1.0] * 8)

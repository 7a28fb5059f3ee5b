"""The forms of sampling give the same numbers and the same gradients, wherever the points lie."""

import pytest
import torch

from engine.models.attention import MultiScaleDeformableAttention
from engine.models.sampling import read_grids, sample, use_sampler

ODD = [(5, 7), (3, 4), (1, 1)]


def anywhere(generator, shape):
    """In the image, on its border and up to half an image outside."""
    return torch.rand(shape, generator=generator) * 2 - 0.5


def on_the_border(generator, shape):
    """Within a token of an edge, on either side."""
    edge = torch.randint(0, 2, shape, generator=generator)
    return edge + (torch.rand(shape, generator=generator) - 0.5) * 0.3


def outside(generator, shape):
    """So far away that nothing is seen."""
    return torch.randint(0, 2, shape, generator=generator) * 60.0 - 30 + torch.rand(shape, generator=generator)


def inputs(where, shapes, *, batch=2, queries=9, heads=3, points=2, channels=5):
    generator = torch.Generator().manual_seed(0)
    tokens = sum(height * width for height, width in shapes)
    value = torch.randn(batch, tokens, heads, channels, generator=generator)
    places = where(generator, (batch, queries, heads, len(shapes), points, 2))
    weights = torch.rand(batch, queries, heads, len(shapes), points, generator=generator)
    return [part.requires_grad_() for part in (value, places, weights)]


def answer(parts, shapes, sampler):
    output = sample(*parts, shapes, sampler)
    upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return [output.detach(), *torch.autograd.grad(output, parts, upstream)]


@pytest.mark.parametrize("where", [anywhere, on_the_border, outside])
@pytest.mark.parametrize("shapes", [[(8, 8)], ODD], ids=["one level", "odd levels"])
@pytest.mark.parametrize("sampler", ["gather", "rows"])
def test_output_and_gradients_are_those_of_grid_sample(sampler, shapes, where):
    parts = inputs(where, shapes)
    for ours, theirs in zip(answer(parts, shapes, sampler), answer(parts, shapes, "grid"), strict=True):
        assert ours.shape == theirs.shape
        assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)
    assert (answer(parts, shapes, "grid")[0].abs().sum() > 0) == (where is not outside)


@pytest.mark.parametrize("sampler", ["gather", "rows"])
def test_a_point_on_a_token_has_its_value(sampler):
    value = torch.arange(12.0).view(1, 12, 1, 1)
    centres = torch.tensor([[(column + 0.5) / 4, (row + 0.5) / 3] for row in range(3) for column in range(4)])
    found = sample(value, centres.view(1, 12, 1, 1, 1, 2), torch.ones(1, 12, 1, 1, 1), [(3, 4)], sampler)
    assert torch.allclose(found.flatten(), value.flatten(), atol=1e-5)


@pytest.mark.parametrize("sampler", ["gather", "rows"])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_a_place_that_is_no_number_is_neither_hidden_nor_fatal(sampler, wrong):
    """NaN stays NaN, for the training loop to see; the infinite is outside."""
    value, places, weights = (part.detach() for part in inputs(anywhere, ODD))
    whole = sample(value, places, weights, ODD, sampler)
    places[0, 4] = wrong
    found = sample(value, places, weights, ODD, sampler)
    assert torch.isnan(found[0, 4]).all() if wrong != wrong else (found[0, 4] == 0).all()  # noqa: PLR0124
    assert torch.equal(found[1], whole[1])


def test_only_the_gradients_that_are_asked_for_are_computed():
    value, places, weights = inputs(anywhere, ODD)
    alone = sample(value, places.detach(), weights.detach(), ODD, "rows")
    whole = sample(value, places, weights, ODD, "rows")
    assert torch.equal(torch.autograd.grad(alone.sum(), value)[0], torch.autograd.grad(whole.sum(), value)[0])


def test_a_processor_takes_rows_and_they_give_the_same_bits_every_time():
    parts = inputs(anywhere, ODD)
    for first, second in zip(answer(parts, ODD, "rows"), answer(parts, ODD, "auto"), strict=True):
        assert torch.equal(first, second)


def test_a_built_model_changes_its_sampler():
    torch.manual_seed(0)
    layer = torch.nn.Sequential(MultiScaleDeformableAttention(16, 2, 3, 2))
    query, reference, memory = torch.rand(2, 6, 16), torch.rand(2, 6, 4), torch.rand(2, 48, 16)
    found = []
    for sampler in ("auto", "grid", "gather", "rows"):
        use_sampler(layer, sampler)
        assert layer[0].sampler == sampler
        found.append(layer[0](query, reference, memory, ODD))
    for other in found[1:]:
        assert torch.allclose(found[0], other, atol=1e-5)


def test_coordinates_stay_exact_under_autocast():
    torch.manual_seed(0)
    layer = MultiScaleDeformableAttention(16, 2, 3, 2)
    query, reference, memory = torch.rand(2, 6, 16), torch.rand(2, 6, 4), torch.rand(2, 48, 16)
    exact = layer(query, reference, memory, ODD)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(query, reference, memory, ODD)
    assert rounded.dtype == torch.bfloat16
    assert torch.allclose(exact, rounded.float(), atol=1e-2)


def some_boxes(seed):
    """(2, 40, 4), some of them partly or wholly outside the image, and a level for each."""
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.cat([torch.rand(2, 40, 2, generator=generator) * 1.4 - 0.2, torch.rand(2, 40, 2, generator=generator) * 0.5], -1)
    return boxes, torch.randint(0, 3, (2, 40), generator=generator)


def test_every_form_reads_a_box_on_its_own_level():
    shapes = [(6, 8), (3, 4), (2, 2)]
    tokens = torch.randn(2, 6 * 8 + 3 * 4 + 2 * 2, 5, generator=torch.Generator().manual_seed(2))
    boxes, level = some_boxes(3)
    found = []
    for form in ("rows", "grid", "gather"):
        value = tokens.clone().requires_grad_()
        seen = read_grids(value, boxes, 3, level, shapes, form)
        assert seen.shape == (2, 40, 9, 5)
        seen.square().sum().backward()
        found.append((seen, value.grad))
    for seen, gradient in found[1:]:
        assert torch.allclose(seen, found[0][0], atol=1e-5)
        assert torch.allclose(gradient, found[0][1], atol=1e-5)
    second = torch.full_like(level, 1)
    alone = read_grids(tokens[:, 48:60], boxes, 3, second * 0, shapes[1:2], "rows")
    assert torch.equal(read_grids(tokens, boxes, 3, second, shapes, "rows"), alone)


@pytest.mark.parametrize("form", ["rows", "gather"])
def test_a_box_is_read_in_the_middle_of_its_cells_row_by_row(form):
    value = torch.arange(12.0).view(1, 12, 1)
    whole, third = torch.tensor([0.5, 0.5, 1.0, 1.0]), torch.tensor([0.375, 0.5, 0.25, 1 / 3])
    seen = read_grids(value, torch.stack([whole, third])[None], 2, torch.zeros(1, 2, dtype=torch.int64), [(3, 4)], form)
    assert torch.allclose(seen[0, 0, :, 0], torch.tensor([1.5, 3.5, 7.5, 9.5]), atol=1e-5)
    assert torch.allclose(seen[0, 1, :, 0], 5 + torch.tensor([-1.25, -0.75, 0.75, 1.25]), atol=1e-5)


def test_halved_numbers_are_read_as_they_are_and_their_gradients_summed_in_full():
    boxes, level = some_boxes(4)
    shapes = [(6, 8), (3, 4), (2, 2)]
    exact = torch.randn(2, 64, 5, generator=torch.Generator().manual_seed(4)).bfloat16().float().requires_grad_()
    halved = exact.detach().bfloat16().requires_grad_()
    seen, known = (read_grids(value, boxes, 7, level, shapes, "rows") for value in (halved, exact))
    assert seen.dtype == torch.bfloat16
    assert torch.allclose(seen.float(), known, atol=3e-2)
    for read_values in (seen, known):
        read_values.sum().backward()
    assert halved.grad.dtype == torch.bfloat16
    assert torch.allclose(halved.grad.float(), exact.grad, rtol=1e-2, atol=1e-3)

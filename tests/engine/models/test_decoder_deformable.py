"""The decoder: shapes, and what may influence what."""

import pytest
import torch

from engine.models.decoder_deformable import DeformableDecoder
from engine.models.encoder import Memory
from engine.models.queries import Queries, block_mask


def draw(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def decoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = DeformableDecoder(32, heads=4, levels=2, points=2, feedforward=64, layers=2)
        for head in made.box_heads:
            torch.nn.init.normal_(head[-1].weight, std=0.1)
        return made


MEMORY = Memory(draw(2, 20, 32, seed=1), [(4, 4), (2, 2)])
QUERIES = Queries(draw(2, 6, 32, seed=2), draw(2, 6, 4, seed=3) * 0.5 + 0.2, None, None)


@torch.no_grad()
def test_one_state_a_layer(decoder):
    decoded = decoder(MEMORY, QUERIES)
    assert [content.shape for content in decoded.content] == [(2, 6, 32)] * 2
    assert [boxes.shape for boxes in decoded.boxes] == [(2, 6, 4)] * 2


@torch.no_grad()
def test_without_a_mask_queries_see_one_another(decoder):
    changed = QUERIES._replace(content=QUERIES.content.index_fill(1, torch.tensor([5]), 0.0))
    assert not torch.allclose(decoder(MEMORY, QUERIES).content[-1][:, 0], decoder(MEMORY, changed).content[-1][:, 0])


@torch.no_grad()
def test_with_a_mask_a_group_sees_nothing_of_another(decoder):
    mask = block_mask(6, 2, torch.device("cpu"))
    changed = QUERIES._replace(content=QUERIES.content.index_fill(1, torch.tensor([3, 4, 5]), 0.0))
    before, after = decoder(MEMORY, QUERIES, mask), decoder(MEMORY, changed, mask)
    assert torch.allclose(before.content[-1][:, :3], after.content[-1][:, :3], atol=1e-6)
    assert not torch.allclose(before.content[-1][:, 3:], after.content[-1][:, 3:])


def test_a_layer_s_boxes_teach_its_own_head_alone(decoder):
    decoder(MEMORY, QUERIES).boxes[1].sum().backward()
    first, second = decoder.box_heads
    assert all(weight.grad is None for weight in first.parameters())
    assert second[-1].weight.grad.abs().sum() > 0


@torch.no_grad()
def test_extra_position_moves_attention(decoder):
    moved = QUERIES._replace(extra_position=draw(2, 6, 32, seed=4))
    assert not torch.allclose(decoder(MEMORY, QUERIES).content[-1], decoder(MEMORY, moved).content[-1])

"""The dense encoder and decoder: shapes, and what may influence what."""

import pytest
import torch

from engine.models.decoder_dense import DenseDecoder
from engine.models.encoder_dense import DenseEncoder
from engine.models.queries import DenseQueries, block_mask


def draw(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=["pre", "post"])
def parts(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = {"heads": 4, "feedforward": 32, "layers": 2, "norm": request.param, "dropout": 0.1}
        return DenseEncoder(24, 16, **sizes).eval(), DenseDecoder(16, **sizes).eval(), DenseQueries(6, 16, 24)


@torch.no_grad()
def test_shapes(parts):
    encoder, decoder, queries = parts
    memory = encoder([draw(2, 24, 3, 4)])
    assert memory.tokens.shape == (2, 12, 16)
    assert memory.shapes == [(3, 4)]
    decoded = decoder(memory, queries.plain(2))
    assert [each.shape for each in decoded.content] == [(2, 6, 16)] * 2
    assert all(bool(((boxes > 0) & (boxes < 1)).all()) for boxes in decoded.boxes)


@torch.no_grad()
def test_where_a_token_lies_matters(parts):
    """The same features at other places give another memory, not the same one in another order."""
    encoder, _, _ = parts
    level = draw(1, 24, 4, 4)
    turned = encoder([level.flip(-1)]).tokens.view(1, 4, 4, 16).flip(2).flatten(1, 2)
    assert not torch.allclose(encoder([level]).tokens, turned, atol=1e-3)


@torch.no_grad()
def test_a_patch_reaches_its_own_group_alone(parts):
    encoder, decoder, queries = parts
    memory = encoder([draw(1, 24, 3, 3)])
    features = draw(1, 3, 24, seed=1)
    changed = features.clone()
    changed[0, 1] += 1
    before, after = (decoder(memory, queries(each), block_mask(6, 3, torch.device("cpu"))).boxes[-1] for each in (features, changed))
    same = torch.isclose(before, after, atol=1e-6).all(-1)[0]
    assert same.tolist() == [True, True, False, False, True, True]


@torch.no_grad()
def test_a_dropped_patch_leaves_the_plain_slot(parts):
    _, _, queries = parts
    kept = queries(draw(1, 2, 24), torch.tensor([[1.0, 1, 1, 0, 0, 0]])).extra_position
    assert bool((kept[0, :3] != 0).any())
    assert bool((kept[0, 3:] == 0).all())

"""The encoder, and the proposals on its tokens."""

import pytest
import torch

from engine.models.encoder import DeformableEncoder, Memory, ProposalHead, TopDown

MAPS = [(8, 8, 8), (12, 4, 4), (16, 2, 2)]


def maps(batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(batch, *shape, generator=generator) for shape in MAPS]


def encoder(layers=2):
    return DeformableEncoder((8, 12, 16), 32, heads=4, points=2, feedforward=64, layers=layers).eval()


@torch.no_grad()
def test_every_place_of_every_level_is_a_token():
    memory = encoder()(maps())
    assert memory.tokens.shape == (2, 64 + 16 + 4, 32)
    assert memory.shapes == [(8, 8), (4, 4), (2, 2)]


@torch.no_grad()
def test_tokens_lie_level_by_level_row_by_row():
    """Without layers a token is its own place's projection: a change at one place changes one token."""
    plain, levels = encoder(0), maps(1)
    swapped = [level.clone() for level in levels]
    swapped[1][0, :, [1, 2], 3] = levels[1][0, :, [2, 1], 3]
    changed = (plain(swapped).tokens - plain(levels).tokens).abs().sum(-1)[0] > 1e-3
    assert changed.nonzero()[:, 0].tolist() == [64 + 1 * 4 + 3, 64 + 2 * 4 + 3]


@torch.no_grad()
def test_tokens_know_other_levels():
    full, levels = encoder(1), maps(1)
    changed = [levels[0], levels[1], levels[2] + torch.arange(4.0).view(1, 1, 2, 2)]
    assert (full(levels).tokens - full(changed).tokens)[0, :64].abs().sum() > 0


@torch.no_grad()
def test_proposals_start_at_their_prior_with_low_scores():
    head = ProposalHead(32, 3)
    tokens = torch.rand(2, 20, 32, generator=torch.Generator().manual_seed(0))
    proposals = head(Memory(tokens, [(4, 4), (2, 2)]))
    assert (proposals.logits.shape, proposals.boxes.shape, proposals.features.shape) == ((2, 20, 3), (2, 20, 4), (2, 20, 32))
    assert proposals.boxes[0, 0].tolist() == [0.125, 0.125, 0.75, 0.75]
    assert proposals.boxes[1, 16].tolist() == [0.25, 0.25, 1.5, 1.5]
    assert proposals.logits.sigmoid().max() < 0.05


@torch.no_grad()
@pytest.mark.parametrize(("norms", "factor"), [(False, 3.0), (True, 1.0)])
def test_only_without_norms_a_pyramid_keeps_how_strong_its_input_is(norms, factor):
    torch.manual_seed(0)
    pyramid = TopDown(16, 2, norms=norms)
    for smooth in pyramid.smooth:
        torch.nn.init.zeros_(smooth[0].bias)
    maps = [torch.randn(1, 16, 16, 16), torch.randn(1, 16, 8, 8)]
    for weak, strong in zip(pyramid(maps), pyramid([3.0 * level for level in maps]), strict=True):
        assert torch.allclose(strong, factor * weak, rtol=1e-2, atol=1e-3)
    spread = pyramid(maps)[1].std().item()
    assert 0.7 < spread < 1.4

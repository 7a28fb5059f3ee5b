"""The plain proposal head of Deformable DETR's two-stage variant (sections 4.3 and A.4)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.models.encoder import Memory, Proposals
from engine.models.heads import MLP, move_boxes, prior_bias
from engine.models.position import token_centres

__all__ = ["LinearProposalHead"]

_SMALLEST_PRIOR = 0.05
_MARGIN = 0.01


class LinearProposalHead(nn.Module):
    """Classes and a box at every token from one linear layer and a norm.

    A token's prior is a square of 0.05 · 2^level of the tile around its centre. Tokens whose prior comes within one hundredth of
    an end of (0, 1) describe nothing: their features are zeroed, and under logit moves their box is (1, 1, 1, 1), as in the paper's code.

    Args:
        dimension: D.
        classes: C.
        box_moves: "relative" or "logit".
    """

    def __init__(self, dimension: int, classes: int, *, box_moves: str) -> None:
        super().__init__()
        self._logit_moves = box_moves == "logit"
        self.project = nn.Linear(dimension, dimension)
        self.norm = nn.LayerNorm(dimension)
        self.classes = nn.Linear(dimension, classes)
        self.boxes = MLP(dimension, dimension, 4, 3).start_at_zero()
        nn.init.constant_(self.classes.bias, prior_bias())

    def priors(self, shapes: list[tuple[int, int]], device: torch.device) -> Tensor:
        """Prior boxes (T, 4) as (cx, cy, w, h), normalised."""
        sides = torch.cat(
            [torch.full((height * width, 2), _SMALLEST_PRIOR * 2.0**level, device=device) for level, (height, width) in enumerate(shapes)]
        )
        return torch.cat([token_centres(shapes, device), sides], -1)

    def forward(self, memory: Memory) -> Proposals:
        """Memory → proposals, in float32."""
        priors = self.priors(memory.shapes, memory.tokens.device)
        useful = ((priors > _MARGIN) & (priors < 1 - _MARGIN)).all(-1, keepdim=True)
        features = self.norm(self.project(memory.tokens * useful))
        deltas = self.boxes(features).float()
        if self._logit_moves:
            logits = (priors / (1 - priors).clamp(min=_MARGIN)).log().masked_fill(~useful, torch.inf)
            boxes = (logits + deltas).sigmoid()
        else:
            boxes = move_boxes(priors, deltas)
        return Proposals(self.classes(features).float(), boxes, features, priors)

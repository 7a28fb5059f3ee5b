"""How a query patch joins what is seen of an image: attention RPN (Fan et al., Few-Shot Object Detection with Attention-RPN, section 4.2).

There the patch's feature is multiplied channel by channel with the image's map, and proposals are made of the product. Here the product,
through a linear layer of its own, and the patch itself join every token, so that all parts of the detector know what is looked for.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["QueryCondition"]


class QueryCondition(nn.Module):
    """Tokens as they look to query patches.

    Args:
        dimension: D.
        patch_channels: channels of the backbone's last map, whose mean describes a patch.
    """

    def __init__(self, dimension: int, patch_channels: int) -> None:
        super().__init__()
        self.patch = nn.Linear(patch_channels, dimension)
        self.norm = nn.LayerNorm(dimension)
        self.agreement = nn.Linear(dimension, dimension, bias=False)
        self.presence = nn.Linear(dimension, dimension)

    def forward(self, tokens: Tensor, patches: Tensor) -> Tensor:
        """Tokens (B, T, D) and patches (B, M, C_5) → (B · M, T, D), one image after the other."""
        sought = self.norm(self.patch(patches)).flatten(0, 1)[:, None]
        tokens = tokens.repeat_interleave(patches.shape[1], 0)
        joined: Tensor = tokens + self.agreement(tokens * sought) + self.presence(sought)
        return joined

"""What a backbone says before it learns: the frozen copy that regions and vocabularies are described by."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence

import torch
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from engine.models.detector import Detector

__all__ = ["FrozenBackbone", "clustered"]


FITTED = 200_000
"""Vectors that centres are found from: more change them little and take memory."""


class FrozenBackbone(nn.Module):
    """A copy of a detector's backbone as it is now, which goes to where the images are.

    Args:
        model: the detector; it may learn on.
    """

    def __init__(self, model: Detector) -> None:
        super().__init__()
        self.network = copy.deepcopy(model.backbone).requires_grad_(False).eval()
        self.strides: Sequence[int] = self.network.strides
        self.register_buffer("mean", model.mean.clone(), persistent=False)
        self.register_buffer("std", model.std.clone(), persistent=False)

    mean: Tensor
    std: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """Its weights and the images that it knows, to be kept in a file."""
        return {**self.network.state_dict(), "mean": self.mean, "std": self.std}

    def take(self, tensors: dict[str, Tensor]) -> bool:
        """Become the backbone that :meth:`tensors` were of; returns whether they are of this architecture, else nothing changes."""
        own = self.tensors()
        if {name: tensor.shape for name, tensor in own.items()} != {name: tensor.shape for name, tensor in tensors.items()}:
            return False
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        return True

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of the weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """All maps (B, C, H, W) of images (B, 3, S, S) in [0, 1], finest first."""
        if self.mean.device != images.device:
            self.to(images.device)
        maps: list[Tensor] = self.network(((images - self.mean) / self.std).contiguous(memory_format=torch.channels_last))
        return maps


def clustered(vectors: Tensor, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """K-means in small batches: the cluster (N,) int64 of each of vectors (N, d), and the centres (count, d).

    The centres are those of at most :data:`FITTED` vectors, drawn by ``seed``.
    """
    drawn = vectors
    if len(vectors) > FITTED:
        drawn = vectors[torch.randperm(len(vectors), generator=torch.Generator().manual_seed(seed))[:FITTED]]
    found = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096).fit(drawn.float().numpy())
    if drawn is vectors:
        labels = torch.from_numpy(found.labels_)
    else:
        labels = torch.cat([torch.from_numpy(found.predict(part.float().numpy())) for part in torch.split(vectors, FITTED)])
    return labels.long(), torch.from_numpy(found.cluster_centers_).float()

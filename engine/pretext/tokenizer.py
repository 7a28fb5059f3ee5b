"""A visual vocabulary cheap enough to run: k-means over patches, in place of the discrete VAE that the paper gave up on.

A word stands for patches that look alike: by their pixels, made small, or by what a frozen backbone says of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from engine.config import StageConfig
from engine.errors import CheckpointRefused, NothingToDo
from engine.files import write_bytes
from engine.models.detector import Detector
from engine.models.weight_files import read_metadata, read_tensors, serialized
from engine.pretext.frozen import FrozenBackbone, clustered
from engine.pretext.patch_grid import informative, to_patches
from engine.progress import Progress, silent
from engine.training.data import TileSource, read_batches, step_generator

__all__ = ["TOKENIZER", "Tokenizer", "TokenizerConfig", "fit_tokenizer", "kept_tokenizer", "tokenizer_files"]

Basis = Literal["pixels", "features"]
SMALL = 8
"""Side to which a patch is made small before its pixels are compared, and in which words are pictured."""
BATCH = 16
FORMAT = 2
"""2: the backbone that describes is in the file; before, only the digits of its weights were."""
BACKBONE = "backbone."
TOKENIZER = "tokenizer.safetensors"
"""What the file is called, in the folder of a run and of a model."""


class TokenizerConfig(StageConfig):
    """How the vocabulary is made."""

    basis: Basis = "features"
    """What patches are alike by: pixels, or features of the backbone as it comes, before it learns."""
    tiles: int = Field(default=512, ge=1)
    """Tiles whose patches are clustered, at most."""


class Tokenizer:
    """Names the patches of images.

    Args:
        basis: what patches are compared by.
        patch: side of a patch in pixels.
        centres: (K, d) of the words.
        pictures: (K, 3, 8, 8) in [0, 1], the mean of each word's patches.
        network: the backbone of the basis "features"; a frozen copy is kept. None for pixels.
        origin: where the vocabulary comes from, such as a workspace's identity.
    """

    def __init__(
        self, basis: Basis, patch: int, centres: Tensor, pictures: Tensor, *, network: Detector | None = None, origin: str = ""
    ) -> None:
        self.basis, self.patch, self.centres, self._small, self.origin = basis, patch, centres, pictures, origin
        self._describe = _Described(basis, patch, network)

    @torch.no_grad()
    def words(self, images: Tensor) -> Tensor:
        """The nearest word (B, P) int64 of every patch of images (B, 3, S, S), RGB in [0, 1]."""
        described = self._describe(images)
        centres = self.centres.to(described)
        return torch.cdist(described.flatten(0, 1), centres).argmin(1).view(described.shape[:2])

    def pictures(self, names: Tensor) -> Tensor:
        """What words (B, P) look like on average, as patches (B, P, 3, s, s) in [0, 1]."""
        small = self._small[names.cpu()].flatten(0, 1)
        large = functional.interpolate(small, size=(self.patch, self.patch), mode="bilinear", align_corners=False)
        return large.view(*names.shape, 3, self.patch, self.patch)

    def save(self, path: Path) -> None:
        """Write it as one safetensors file, whole or not at all; with the backbone of the basis "features"."""
        said = {"format": FORMAT, "basis": self.basis, "patch": self.patch, "origin": self.origin}
        backbone = {BACKBONE + name: tensor for name, tensor in self._describe.tensors().items()}
        write_bytes(path, serialized({"centres": self.centres, "pictures": self._small, **backbone}, said))

    @classmethod
    def load(cls, path: Path, *, network: Detector | None = None, origin: str | None = None) -> Self:
        """Read what :meth:`save` wrote.

        Args:
            path: the file.
            network: a detector with a backbone of the same architecture, whatever it has learned; not needed for pixels.
            origin: where it must come from; None takes any.

        Raises:
            CheckpointRefused: the file is damaged, of another format, comes from elsewhere, or its backbone is of another architecture.
        """
        tensors, said = read_tensors(path), read_metadata(path)

        def refuse(found: str, expected: str) -> CheckpointRefused:
            return CheckpointRefused(f"{path.name}: {found}", expected=expected, remedy="Let pre-training fit a tokenizer of its own")

        if said.get("format") != FORMAT or not {"centres", "pictures"} <= set(tensors):
            raise refuse("no tokenizer that this Tilehawk knows", f"format {FORMAT}")
        if origin is not None and said["origin"] != origin:
            raise refuse(f"a tokenizer of {said['origin'] or 'nowhere'}", f"one of {origin}")
        basis: Basis = "pixels" if said["basis"] == "pixels" else "features"
        made = cls(basis, int(str(said["patch"])), tensors["centres"], tensors["pictures"], network=network, origin=str(said["origin"]))
        held = {name.removeprefix(BACKBONE): tensor for name, tensor in tensors.items() if name.startswith(BACKBONE)}
        if not made._describe.take(held):
            raise refuse("a tokenizer made with another backbone", "one of the same architecture")
        return made


class _Described(nn.Module):
    """Descriptions (B, P, d) of the patches of images: small pixels, or unit vectors of pooled features."""

    def __init__(self, basis: Basis, patch: int, network: Detector | None) -> None:
        super().__init__()
        self._patch, self._backbone = patch, None
        if basis == "features":
            assert network is not None, "features need a network"
            self._backbone = FrozenBackbone(network)
            strides = self._backbone.strides
            self._level = max(index for index, stride in enumerate(strides) if stride <= max(patch // 2, strides[0]))

    def tensors(self) -> dict[str, Tensor]:
        """Of the network; none for pixels."""
        return self._backbone.tensors() if self._backbone else {}

    def take(self, tensors: dict[str, Tensor]) -> bool:
        """Let the network be the one of :meth:`tensors`; returns whether it can be."""
        return self._backbone.take(tensors) if self._backbone else not tensors

    def forward(self, images: Tensor) -> Tensor:
        side = images.shape[-1] // self._patch
        if self._backbone is None:
            patches = to_patches(images, self._patch)
            small = functional.adaptive_avg_pool2d(patches.flatten(0, 1), SMALL)
            return small.flatten(1).view(*patches.shape[:2], -1)
        pooled = functional.adaptive_avg_pool2d(self._backbone(images)[self._level].float(), side)
        return functional.normalize(pooled.flatten(2).transpose(1, 2), dim=-1)


def fit_tokenizer(
    source: TileSource,
    config: TokenizerConfig,
    *,
    patch: int,
    words: int,
    network: Detector,
    seed: int,
    origin: str = "",
    progress: Progress = silent,
) -> Tokenizer:
    """Cluster the patches of tiles.

    Args:
        source: the tiles; some are drawn where there are many, and those that cannot be read are passed over.
        config: by what, and from how many tiles.
        patch: side of a patch in pixels.
        words: K.
        network: whose backbone describes; it is copied.
        seed: decides the tiles drawn and where k-means starts.
        origin: see :class:`Tokenizer`.
        progress: told after every batch of tiles.

    Raises:
        NothingToDo: the tiles have fewer patches of more than one colour than there are words.
    """
    drawn = torch.randperm(len(source), generator=step_generator(seed, 0, "tokenizer"))[: config.tiles].tolist()
    describe = _Described(config.basis, patch, network)
    descriptions, small, done = list[Tensor](), list[Tensor](), 0
    for indices, pixels in read_batches(source, drawn, BATCH):
        images = pixels.float() / 255
        patches = to_patches(images, patch)
        taught = informative(patches)
        with torch.no_grad():
            descriptions.append(describe(images)[taught])
        small.append(functional.adaptive_avg_pool2d(patches[taught], SMALL))
        done += len(indices)
        progress(done, len(drawn), "describing patches")
    found = sum(len(each) for each in descriptions)
    if found < words:
        raise NothingToDo(
            f"{found} patches of more than one colour for {words} words",
            expected="at least one patch a word",
            remedy="Take more tiles, or a smaller vocabulary",
        )
    names, centres = clustered(torch.cat(descriptions), words, seed=seed)
    count = torch.bincount(names, minlength=words).clamp(min=1).view(-1, 1, 1, 1)
    pictures = torch.zeros(words, 3, SMALL, SMALL).index_add_(0, names, torch.cat(small)) / count
    return Tokenizer(config.basis, patch, centres, pictures, network=network, origin=origin)


def tokenizer_files(tokenizer: Tokenizer | None, folder: Path) -> dict[str, Path]:
    """What a model keeps beside its weights, by name: the vocabulary, written to the run's folder; nothing where there is none."""
    if tokenizer is None:
        return {}
    tokenizer.save(folder / TOKENIZER)
    return {TOKENIZER: folder / TOKENIZER}


def kept_tokenizer(
    source: TileSource,
    config: TokenizerConfig,
    *,
    patch: int,
    words: int,
    network: Detector,
    seed: int,
    given: Path | None = None,
    keep: Path | None = None,
    origin: str = "",
    progress: Progress = silent,
) -> Tokenizer:
    """The vocabulary of a run: one that is given, or the one that the run made when it was begun, or a new one.

    Args:
        source: as in :func:`fit_tokenizer`.
        config: as there.
        patch: as there.
        words: as there.
        network: as there.
        seed: as there.
        given: the file of one that was made before; None for none.
        keep: the run's folder, in which it is kept; None for none.
        origin: as there.
        progress: as there.

    Raises:
        NothingToDo: too few patches for the words.
        CheckpointRefused: the file is damaged, comes from elsewhere, or its backbone is of another architecture.
    """
    if given:
        return Tokenizer.load(given, network=network, origin=origin)
    if keep and (keep / TOKENIZER).is_file():
        return Tokenizer.load(keep / TOKENIZER, network=network, origin=origin)
    made = fit_tokenizer(source, config, patch=patch, words=words, network=network, seed=seed, origin=origin, progress=progress)
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        made.save(keep / TOKENIZER)
    return made

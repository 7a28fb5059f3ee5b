"""Pictures of what a run asks and what is answered, for a person to look at while it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from engine.evaluation.drawing import PALETTE, write_png
from engine.pretext.encoder_tasks import Shown
from engine.pretext.plan import Pretext
from engine.pretext.query_patches import FoundPatches
from engine.pretext.region_looks import FoundRegions, find_look_alikes, find_regions_again
from engine.training.data import Sample, readable, step_generator
from engine.training.one_shot import OneShotTask

__all__ = ["PretextPictures", "encoder_picture", "patches_picture", "regions_picture"]

GAP = 6
BACKGROUND = 24
COUNT = 4
"""Tiles in a picture."""
PATCH_SIDE, LEAST_PATCH_SIDE = 56, 8

Pixels = NDArray[np.uint8]


def _pixels(images: Tensor) -> list[Pixels]:
    """Images (B, 3, H, W) in [0, 1] as RGB (H, W, 3)."""
    return list((images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy())


def _table(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Pictures of one size in rows and columns."""
    height, width, _ = rows[0][0].shape
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), BACKGROUND, np.uint8)
    for number, row in enumerate(rows):
        for place, picture in enumerate(row):
            top, left = GAP + number * (height + GAP), GAP + place * (width + GAP)
            sheet[top : top + height, left : left + width] = picture
    return sheet


def encoder_picture(shown: Shown) -> Pixels:
    """A row a tile: what the encoder saw, what was asked for, what it answered (encoder SSL on aerial images, figure 10)."""
    return _table(list(zip(*(_pixels(images) for images in shown), strict=True)))


def patches_picture(found: FoundPatches) -> Pixels:
    """A row a tile: the tile with its patches framed and the boxes that were answered, in the patch's colour; beside it the patches.

    Frames of patches are thin and those of answers thick (UP-DETR, figure 7).
    """
    rows = []
    for image, tile in enumerate(_pixels(found.images)):
        side = tile.shape[0]
        picture = Image.fromarray(tile)
        draw = ImageDraw.Draw(picture)
        for patch, (asked, answered) in enumerate(zip(found.crops[image].tolist(), found.boxes[image].tolist(), strict=True)):
            colour = PALETTE[patch % len(PALETTE)]
            for box, width in ((asked, 1), (answered, 3)):
                left, top, right, bottom = (value * side for value in box)
                draw.rectangle((min(left, right), min(top, bottom), max(left, right), max(top, bottom)), outline=colour, width=width)
        rows.append([np.asarray(picture), _framed_patches(_pixels(found.patches[image]), side)])
    return _table(rows)


def _framed_patches(patches: Sequence[Pixels], side: int) -> Pixels:
    """A square picture of patches in frames of their colours, so small that there is room for all.

    Where they would be too small to be recognised, the first of them are shown, and how many of how many.
    """
    every = PATCH_SIDE + 2 * GAP
    place = min(every, max(side // math.ceil(math.sqrt(len(patches))), LEAST_PATCH_SIDE + 2 * GAP))
    across, inner = side // place, place - 2 * GAP
    sheet = Image.new("RGB", (side, side), (BACKGROUND,) * 3)
    draw = ImageDraw.Draw(sheet)
    for number, patch in enumerate(patches[: across**2]):
        top, left = (index * place for index in divmod(number, across))
        draw.rectangle((left, top, left + inner + 3, top + inner + 3), outline=PALETTE[number % len(PALETTE)], width=2)
        sheet.paste(Image.fromarray(patch).resize((inner, inner)), (left + 2, top + 2))
    if len(patches) > across**2:
        draw.text((side - 1, side - 1), f"{across**2} of {len(patches)}", fill=(255, 255, 255), anchor="rb")
    return np.asarray(sheet)


def regions_picture(found: FoundRegions) -> Pixels:
    """A row a tile: the regions that were taught, framed thinly, and what is found now, framed thickly; a cluster has one colour.

    What was asked for, where something was, stands in a corner of the second picture.
    """
    rows = []
    for image, tile in enumerate(_pixels(found.images)):
        pair = []
        for (boxes, labels), width, query in ((found.taught[image], 1, None), (found.found[image], 2, found.queries[image])):
            picture = Image.fromarray(tile)
            draw = ImageDraw.Draw(picture)
            for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
                corners = (min(left, right), min(top, bottom), max(left, right), max(top, bottom))
                draw.rectangle(corners, outline=PALETTE[label % len(PALETTE)], width=width)
            if query is not None:
                side = min(PATCH_SIDE, tile.shape[0] // 4)
                picture.paste(Image.fromarray(_pixels(query[None])[0]).resize((side, side)), (2, 2))
                draw.rectangle((0, 0, side + 3, side + 3), outline=(255, 255, 255), width=2)
            pair.append(np.asarray(picture))
        rows.append(pair)
    return _table(rows)


class PretextPictures:
    """Writes pictures of a run: always of the same tiles, asked the same, so that progress can be seen.

    Args:
        pretext: what is learned, and its tiles; a few that can be read are taken now, so that no thread reads them later.
        folder: where pictures go, as ``encoder-00001200.png``, ``patches-00001200.png`` and ``regions-00001200.png``.
        seed: decides the tiles and what they are asked.
        regions: what the pictures of regions are called.
    """

    def __init__(self, pretext: Pretext, folder: Path, *, seed: int, regions: str = "regions") -> None:
        self._encoder, self._patches, self._regions = pretext.encoder, pretext.patches, pretext.regions
        self._folder, self._seed, self._regions_name = folder, seed, regions
        generator = step_generator(seed, 0, "pictures")
        drawn = torch.randperm(len(pretext.source), generator=generator).tolist()
        known = list(islice(readable(pretext.source, drawn), COUNT))
        self._samples = [sample._replace(tile=index) for index, sample in known]
        asks = self._regions.query_for if isinstance(self._regions, OneShotTask) else None
        self._queries = [asks(sample, generator) for sample in self._samples] if asks else []

    def __call__(self, images_seen: int) -> None:
        """Write the pictures of now."""
        learned = self._encoder or self._patches or self._regions
        if learned is None or not self._samples:
            return
        device = next(learned.model.parameters()).device
        batch = [sample.to(device) for sample in self._samples]
        if self._encoder:
            shown = self._encoder.show(batch, step_generator(self._seed, 0, "shown"))
            write_png(self._folder / f"encoder-{images_seen:08d}.png", encoder_picture(shown))
        if self._patches:
            found = self._patches.show(batch, step_generator(self._seed, 0, "shown"))
            write_png(self._folder / f"patches-{images_seen:08d}.png", patches_picture(found))
        if self._regions:
            write_png(self._folder / f"{self._regions_name}-{images_seen:08d}.png", regions_picture(self._find_regions(batch)))

    def _find_regions(self, batch: list[Sample]) -> FoundRegions:
        assert self._regions is not None
        detector = self._regions.detector
        return find_look_alikes(detector, batch, self._queries) if self._queries else find_regions_again(detector, batch)

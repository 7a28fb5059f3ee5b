"""Generated aerial pictures: fields, a road, houses with shadows, parked cars; and where the objects are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

FIELDS = ((108, 124, 76), (134, 138, 88), (92, 112, 66), (150, 142, 104), (118, 130, 92))
ROOFS = ((168, 92, 70), (150, 78, 60), (128, 120, 118), (182, 108, 84))
CARS = ((226, 228, 230), (52, 58, 70), (170, 30, 34), (40, 72, 140), (200, 200, 60))
ASPHALT = (112, 112, 116)
SHADOW = (52, 60, 44)


@dataclass(frozen=True)
class Landscape:
    """A picture (H, W, 3) uint8, and the boxes (N, 4) of its houses and cars in pixels."""

    pixels: np.ndarray
    houses: np.ndarray
    cars: np.ndarray


def landscape(seed: int, *, side: int = 640) -> Landscape:
    """The same seed gives the same ground."""
    generator = np.random.default_rng(seed)
    picture = Image.new("RGB", (side, side), FIELDS[seed % len(FIELDS)])
    draw = ImageDraw.Draw(picture)
    for _ in range(7):
        x, y = generator.integers(-side // 4, side, size=2).tolist()
        width, height = generator.integers(side // 5, side // 2, size=2).tolist()
        lean = int(generator.integers(-40, 40))
        draw.polygon(
            [(x, y), (x + width, y + lean), (x + width + lean, y + height), (x + lean, y + height - lean)],
            fill=FIELDS[int(generator.integers(len(FIELDS)))],
        )
    road = int(generator.integers(side // 4, 3 * side // 4))
    draw.rectangle([0, road - 16, side, road + 16], fill=ASPHALT)
    for x in range(0, side, 28):
        draw.line([x, road, x + 12, road], fill=(205, 205, 200), width=2)
    cars = [_car(draw, generator, int(x), road) for x in _spread(generator, 10, side - 40, 34, count=side // 70)]
    houses: list[tuple[int, int, int, int]] = []
    for _ in range(side // 28):
        _house(draw, generator, side, road, houses)
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.int16)
    grain = generator.normal(0, 5, (side, side, 1)) + generator.normal(0, 3, (side, side, 3))
    return Landscape(
        np.clip(pixels + grain, 0, 255).astype(np.uint8),
        np.array(houses, dtype=np.float64).reshape(-1, 4),
        np.array(cars, dtype=np.float64).reshape(-1, 4),
    )


def _spread(generator: np.random.Generator, low: int, high: int, apart: int, *, count: int) -> list[int]:
    places = np.arange(low, high, apart)
    return sorted(generator.choice(places, min(count, len(places)), replace=False).tolist())


def _car(draw: ImageDraw.ImageDraw, generator: np.random.Generator, x: int, road: int) -> tuple[int, int, int, int]:
    y = road + (5 if generator.random() < 0.5 else -13)
    box = (x, y, x + 18, y + 8)
    draw.rectangle([box[0] + 1, box[1] + 2, box[2] + 2, box[3] + 2], fill=(70, 70, 74))
    draw.rectangle([box[0], box[1], box[2] - 1, box[3] - 1], fill=CARS[int(generator.integers(len(CARS)))])
    draw.rectangle([x + 11, y + 1, x + 13, y + 6], fill=(30, 34, 40))
    return box


def _house(
    draw: ImageDraw.ImageDraw, generator: np.random.Generator, side: int, road: int, houses: list[tuple[int, int, int, int]]
) -> None:
    width, height = generator.integers(26, 46, size=2).tolist()
    x, y = int(generator.integers(4, side - width - 8)), int(generator.integers(4, side - height - 8))
    box = (x, y, x + width, y + height)
    near_road = y - 24 < road < y + height + 24
    near_house = any(x - 10 < other[2] and other[0] < box[2] + 10 and y - 10 < other[3] and other[1] < box[3] + 10 for other in houses)
    if near_road or near_house:
        return
    roof = ROOFS[int(generator.integers(len(ROOFS)))]
    draw.rectangle([x + 5, y + 5, box[2] + 5, box[3] + 5], fill=SHADOW)
    draw.rectangle([x, y, box[2] - 1, box[3] - 1], fill=roof)
    dark = tuple(int(channel * 0.8) for channel in roof)
    draw.rectangle([x, y + height // 2, box[2] - 1, box[3] - 1], fill=dark)
    houses.append(box)

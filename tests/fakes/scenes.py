"""Detections of scenes that lie in different places, made by hand."""

from __future__ import annotations

import math

import numpy as np

from engine.boxes import Boxes
from engine.label_set import LabelSet
from engine.records import GeoReference, SceneDetections

CLASSES = LabelSet(("tree", "Gebäude"))
ROTATION = math.radians(30)


def wkt(code):
    from pyproj import CRS

    return CRS.from_user_input(code).to_wkt("WKT2_2019")


PLACES = {
    "utm": ("EPSG:32617", (0.1, 0.0, 404000.05, 0.0, -0.1, 3286000.55)),
    "rotated": (
        "EPSG:2056",
        (0.5 * math.cos(ROTATION), 0.5 * math.sin(ROTATION), 2600000.0, 0.5 * math.sin(ROTATION), -0.5 * math.cos(ROTATION), 1200000.0),
    ),
    "south up": ("EPSG:32753", (0.2, 0.0, 500000.0, 0.0, 0.2, 6000000.0)),
    "degrees": ("EPSG:4326", (1e-6, 0.0, 8.5, 0.0, -1e-6, 47.4)),
    "web mercator": ("EPSG:3857", (0.6, 0.0, 1000000.0, 0.0, -0.6, 8000000.0)),
    "feet": ("EPSG:2263", (1.0, 0.0, 980000.0, 0.0, -1.0, 200000.0)),
}


def georeference(place):
    code, transform = PLACES[place]
    return GeoReference(wkt(code), transform)


def detections(place=None, boxes=None, *, number=5, size=(400, 300)):
    """Detections in a scene at ``place``, or in a plain picture."""
    if boxes is None:
        generator = np.random.default_rng(number)
        corner = generator.uniform(0, 250, (number, 2))
        xyxy = np.concatenate([corner, corner + generator.uniform(3, 40, (number, 2))], axis=1)
        boxes = Boxes(xyxy, generator.integers(0, 2, number), np.sort(generator.uniform(0.3, 1, number))[::-1])
    return SceneDetections("scene.tif", *size, georeference(place) if place else None, CLASSES, boxes)

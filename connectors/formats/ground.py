"""Features of GIS layers laid over scenes: every scene that shows enough of one gets its box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from connectors.formats.boxes import BoxCollector
from connectors.formats.contract import ReadOptions, Scenes, label_set_of
from connectors.formats.features import FeatureLayer, crs_of
from connectors.formats.outlines import Outlines, outlines_of
from engine.boxes import Boxes, visible_share
from engine.errors import BadInput
from engine.imagery.georeference import ground_sample_distance
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile, SceneFrame, UnusableBox

__all__ = ["place"]

OUTSIDE = "it lies outside of every scene"


def place(layers: Sequence[FeatureLayer], scenes: Scenes, options: ReadOptions, source: str) -> LabelFile:
    """The boxes of features in the pixels of the scenes that they lie in; classes stand in alphabetical order.

    A feature is one object: a polygon or a closed line around it, of several parts perhaps; a point becomes a box of
    ``options.point_size``. Its corners are brought into the coordinate system of each scene, and their upright hull in the scene's pixels
    is the box. A scene has it where ``options.minimum_visible`` of that box lies in the scene, cut off at its edge; several scenes may. A
    feature of a layer of ours that names its scene goes to scenes of that name alone. What lies in no scene, or is no box, is listed as
    unusable.
    Images are the scenes that have a box: a scene without features is not spoken of.

    Raises:
        BadInput: no feature, or none in any scene; points without a size; a coordinate system that is missing, not understood, or without
            a way to that of any scene.
    """
    names = label_set_of(sorted({name for layer in layers for name in layer.classes if name is not None}), source)
    placements = [_Placement(layer, scenes, options, names) for layer in layers]
    for placement in placements:
        placement.run()
    lost = [box for placement in placements for box in placement.lost()]
    images: dict[int, ImageLabels] = {}
    for placement in placements:
        for scene_id, collector in placement.collectors.items():
            found = replace(collector.image_labels(), scene_id=scene_id)
            if len(found.boxes_scene):
                images[scene_id] = _joined(images[scene_id], found) if scene_id in images else found
    unknown = {image: None for placement in placements for image in placement.unknown}
    if not images and not unknown:
        first = f"; the first, {lost[0].box}: {lost[0].reason}" if lost else ""
        raise BadInput(
            f"none of the {sum(len(layer.ids) for layer in layers)} features of {source} lies in a scene{first}",
            expected="features on the ground of the imagery",
            remedy="Check its coordinate system, or ingest the imagery that it belongs to",
        )
    named = [ImageLabels(image, 0, 0, Boxes.empty()) for image in unknown]
    return LabelFile(names, tuple([images[scene_id] for scene_id in sorted(images)] + named), source=source, unusable=tuple(lost))


def _joined(one: ImageLabels, other: ImageLabels) -> ImageLabels:
    a, b = one.boxes_scene, other.boxes_scene
    return replace(one, boxes_scene=Boxes(np.concatenate([a.xyxy, b.xyxy]), np.concatenate([a.labels, b.labels])))


class _Placement:
    """One layer on its way into scenes."""

    def __init__(self, layer: FeatureLayer, scenes: Scenes, options: ReadOptions, names: LabelSet) -> None:
        self.collectors: dict[int, BoxCollector] = {}
        self.unknown: dict[str, None] = {}
        self._layer, self._scenes, self._options, self._names = layer, scenes, options, names
        self._outlines, self._reasons = outlines_of(layer)
        self._best: dict[int, float] = {}
        self._settled: set[int] = set()
        by_name = {name: scenes.find(name) for name in set(layer.scenes) if name}
        self._meant = {row: by_name[name] for row, name in enumerate(layer.scenes) if name}

    def run(self) -> None:
        """Lay every feature over the scenes."""
        points = int(self._outlines.is_point.sum())
        if points and self._options.point_size is None:
            raise BadInput(
                f"{self._layer.name} has {points} points",
                expected="polygons, or closed lines around objects",
                remedy="State the side of the boxes that points become, in metres (--point-size)",
            )
        if not len(self._outlines.features):
            return
        if self._layer.in_pixels:
            self._place_by_name()
        else:
            self._place_on_ground()
        for row in self._outlines.features.tolist():
            if row not in self._settled:
                share, least = self._best.get(row, 0.0), self._options.minimum_visible
                few = f"{share:.0%} of it lies in a scene at most, and {least:.0%} are needed"
                self._reasons.setdefault(row, few if share else OUTSIDE)

    def lost(self) -> list[UnusableBox]:
        """The features that no scene has, and the boxes that are none in a scene."""
        ids = self._layer.ids
        lost = [UnusableBox(self._layer.name, f"feature {ids[row]}", reason) for row, reason in sorted(self._reasons.items())]
        return lost + [box for collector in self.collectors.values() for box in collector.unusable]

    def _place_by_name(self) -> None:
        for number, row in enumerate(self._outlines.features.tolist()):
            meant = self._meant[row]
            if len(meant) == 1:
                self._offer(row, self._outlines.box_px(number, None, 0.0), meant[0])
            else:
                self.unknown[str(self._layer.scenes[row])] = None
                self._settled.add(row)

    def _place_on_ground(self) -> None:
        by_crs: dict[str, list[SceneFrame]] = {}
        for frame in self._scenes:
            if frame.georeference is not None:
                by_crs.setdefault(frame.georeference.crs_wkt, []).append(frame)
        if not by_crs:
            raise BadInput(
                f"{self._layer.name} lies on the ground, and no scene of this workspace does",
                expected="scenes with a coordinate system",
                remedy="Ingest GeoTIFFs, or bring labels that name images",
            )
        crs = crs_of(self._layer, self._options)
        reached = {wkt: there for wkt in by_crs if (there := self._outlines.in_crs(crs, wkt)) is not None}
        if not reached:
            raise BadInput(f"no way leads from {crs.name}, the coordinate system of {self._layer.name}, to that of any scene")
        for wkt, outlines in reached.items():
            for frame in by_crs[wkt]:
                self._place_in_scene(outlines.around(frame), frame)

    def _place_in_scene(self, outlines: Outlines, frame: SceneFrame) -> None:
        margin = _half_point(frame, self._options.point_size) if outlines.is_point.any() else 0.0
        for number in outlines.near(frame, margin).tolist():
            row = int(outlines.features[number])
            meant = self._meant.get(row, ())
            if not meant or any(one.id == frame.id for one in meant):
                self._offer(row, outlines.box_px(number, frame.georeference, margin), frame)

    def _offer(self, row: int, box: NDArray[np.float64], frame: SceneFrame) -> None:
        """Give a scene the box of a feature, where enough of it lies there."""
        if not (box[2:] > box[:2]).all():
            self._reasons[row] = "it has no area"
            return
        share = float(visible_share(box[None], (0, 0, frame.width, frame.height))[0])
        self._best[row] = max(share, self._best.get(row, 0.0))
        if share >= self._options.minimum_visible:
            collector = self.collectors.setdefault(frame.id, BoxCollector(frame.name, frame.width, frame.height))
            x1, y1, x2, y2 = box.tolist()
            collector.add(
                (x1, y1, x2, y2),
                self._names.index(str(self._layer.classes[row])),
                where=f"{self._layer.name}, feature {self._layer.ids[row]}",
            )
            self._settled.add(row)


def _half_point(frame: SceneFrame, point_size: float | None) -> float:
    """Half the side in pixels of the boxes that points become; 0 where the ground of a pixel is not known."""
    assert frame.georeference is not None
    distance = ground_sample_distance(frame.georeference, frame.width, frame.height)
    return 0.0 if distance is None or point_size is None else point_size / distance / 2

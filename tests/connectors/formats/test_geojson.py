import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from pyproj import CRS, Transformer

from connectors.formats import geojson
from engine.boxes import Boxes
from engine.errors import BadInput
from engine.records import GeoReference, SceneDetections

PLACES = ["utm", "rotated", "south up", "degrees", "web mercator", "feet"]
ENGINEERING = 'ENGCRS["a building site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["metre",1]]'


@pytest.fixture
def scenes(fake):
    return fake("scenes")


def written(path: Path, detections: SceneDetections) -> dict:
    geojson.write(path, detections)
    return json.loads(path.read_text())


@pytest.mark.parametrize("place", PLACES)
def test_positions_are_the_corners_in_longitude_and_latitude(scenes, place, tmp_path):
    detections = scenes.detections(place)
    document = written(tmp_path / "layer.geojson", detections)
    a, b, c, d, e, f = detections.georeference.transform
    to_wgs84 = Transformer.from_crs(CRS.from_wkt(detections.georeference.crs_wkt), "OGC:CRS84", always_xy=True)
    assert len(document["features"]) == 5
    for feature, (x1, y1, x2, y2) in zip(document["features"], detections.boxes_scene.xyxy, strict=True):
        corners = [to_wgs84.transform(a * x + b * y + c, d * x + e * y + f) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]
        ring = np.array(feature["geometry"]["coordinates"][0][:-1])
        start = int(np.argmin(np.abs(ring - corners[0]).sum(1)))
        turned = np.roll(ring, -start, axis=0)
        backwards = np.roll(ring[::-1], start + 1, axis=0)
        assert min(np.abs(way - corners).max() for way in (turned, backwards)) < 1e-9


@pytest.mark.parametrize("place", [*PLACES, None])
def test_rings_are_closed_and_run_counterclockwise(scenes, place, tmp_path):
    for feature in written(tmp_path / "layer.geojson", scenes.detections(place))["features"]:
        [ring] = feature["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        assert shapely.LinearRing(ring).is_ccw


def test_features_say_what_was_found(scenes, tmp_path):
    detections = scenes.detections("utm")
    document = written(tmp_path / "layer.geojson", detections)
    boxes = detections.boxes_scene
    assert document["classes"] == list(scenes.CLASSES.names)
    assert "crs" not in document
    assert "coordinate_note" not in document
    assert [feature["id"] for feature in document["features"]] == [1, 2, 3, 4, 5]
    for row, feature in enumerate(document["features"]):
        properties = feature["properties"]
        assert properties["class"] == scenes.CLASSES.names[boxes.labels[row]]
        assert properties["score"] == boxes.scores[row]
        assert properties["box_px"] == boxes.xyxy[row].tolist()
        assert properties["area_m2"] == pytest.approx(0.01 * np.prod(boxes.xyxy[row, 2:] - boxes.xyxy[row, :2]), rel=1e-2)


def test_a_picture_without_crs_is_written_in_pixels_and_says_so(scenes, tmp_path):
    detections = scenes.detections()
    document = written(tmp_path / "layer.geojson", detections)
    assert "no CRS" in document["coordinate_note"]
    bounds = [shapely.Polygon(feature["geometry"]["coordinates"][0]).bounds for feature in document["features"]]
    assert np.array_equal(bounds, detections.boxes_scene.xyxy)
    assert all(feature["properties"]["area_m2"] is None for feature in document["features"])


def test_a_box_over_the_antimeridian_is_cut_there(scenes, tmp_path):
    reference = GeoReference(scenes.wkt("EPSG:4326"), (0.001, 0.0, 179.95, 0.0, -0.001, -16.0))
    boxes = Boxes(np.array([[40.0, 10.0, 60.0, 20.0], [0.0, 10.0, 20.0, 20.0]]), [0, 0], [0.9, 0.8])
    over, west = written(tmp_path / "layer.geojson", SceneDetections("fiji.tif", 100, 100, reference, scenes.CLASSES, boxes))["features"]
    assert west["geometry"]["type"] == "Polygon"
    assert over["geometry"]["type"] == "MultiPolygon"
    parts = [shapely.Polygon(*part) for part in over["geometry"]["coordinates"]]
    np.testing.assert_allclose([part.bounds for part in parts], [[179.99, -16.02, 180, -16.01], [-180, -16.02, -179.99, -16.01]], atol=1e-9)
    assert all(part.exterior.is_ccw for part in parts)


def test_nothing_found_is_an_empty_collection(scenes, tmp_path):
    assert written(tmp_path / "layer.geojson", scenes.detections("utm", Boxes.empty(scored=True)))["features"] == []


def test_a_crs_without_longitude_is_refused_and_nothing_written(scenes, tmp_path):
    known = scenes.detections("utm")
    placed = SceneDetections("s", 400, 300, GeoReference(ENGINEERING, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)), known.label_set, known.boxes_scene)
    with pytest.raises(BadInput, match="a building site"):
        geojson.write(tmp_path / "layer.geojson", placed)
    assert list(tmp_path.iterdir()) == []


def test_a_transform_that_leaves_the_crs_is_refused(scenes, tmp_path):
    known = scenes.detections("utm")
    reference = GeoReference(known.georeference.crs_wkt, (1e9, 0.0, 1e12, 0.0, -1e9, 1e12))
    with pytest.raises(BadInput, match="outside"):
        geojson.write(tmp_path / "layer.geojson", SceneDetections("s", 400, 300, reference, known.label_set, known.boxes_scene))

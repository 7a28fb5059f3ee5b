import json

import numpy as np
import pytest
from pyproj import CRS, Transformer

from connectors.formats import geojson
from connectors.formats.contract import ReadOptions
from engine.errors import BadInput
from engine.records import GeoReference

UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 3_300_000.0)
RING = [(400_005, 3_299_990), (400_015, 3_299_990), (400_015, 3_299_980), (400_005, 3_299_980), (400_005, 3_299_990)]
TO_DEGREES = Transformer.from_crs("EPSG:32617", "OGC:CRS84", always_xy=True)


@pytest.fixture
def scenes(fake):
    return fake("frames").Scenes(("a.tif", 100, 100, GeoReference(CRS("EPSG:32617").to_wkt(), UTM)))


def polygon(ring):
    return {"type": "Polygon", "coordinates": [ring]}


DEGREES = polygon([TO_DEGREES.transform(*point) for point in RING])


def collection(*geometries, **more):
    features = [{"type": "Feature", "geometry": geometry, "properties": {"class": "tree"}} for geometry in geometries]
    return {"type": "FeatureCollection", "features": features, **more}


def read(folder, scenes, document, options=None):
    path = folder / "trees.geojson"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return geojson.read(path, scenes, options or ReadOptions())


def test_longitude_and_latitude_become_pixels(tmp_path, scenes):
    found = read(tmp_path, scenes, collection(DEGREES))
    assert (found.label_set.names, found.source) == (("tree",), "trees.geojson")
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, [[10, 20, 30, 40]], atol=1e-3)


@pytest.mark.parametrize("name", ["EPSG:32617", "urn:ogc:def:crs:EPSG::32617"])
def test_the_older_standard_may_name_another_coordinate_system(tmp_path, scenes, name):
    document = collection(polygon(RING), crs={"type": "name", "properties": {"name": name}})
    assert read(tmp_path, scenes, document).images[0].boxes_scene.xyxy.tolist() == [[10, 20, 30, 40]]


def test_what_detect_wrote_comes_back(tmp_path, fake):
    detections = fake("scenes").detections("utm")
    geojson.write(tmp_path / "layer.geojson", detections)
    here = fake("scenes").georeference("utm")
    found = geojson.read(tmp_path / "layer.geojson", fake("frames").Scenes(("scene.tif", 400, 300, here)))
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, detections.boxes_scene.xyxy, atol=2e-3)
    geojson.write(tmp_path / "pixels.geojson", fake("scenes").detections())
    with pytest.raises(BadInput, match="coordinates are pixels of the picture"):
        geojson.read(tmp_path / "pixels.geojson", fake("frames").Scenes(("scene.tif", 400, 300, here)))


@pytest.mark.parametrize(
    "geometry",
    [
        None,
        {},
        {"type": "Polygon"},
        {"type": "Polygon", "coordinates": [[[1, 2], [3, 4]]]},
        {"type": "Polygon", "coordinates": "many"},
        {"type": "Polygon", "coordinates": [[["a", "b"], [1, 2], [3, 4], ["a", "b"]]]},
        {"type": "Blob", "coordinates": [1, 2]},
        {"type": "Polygon", "coordinates": []},
        {"type": "GeometryCollection", "geometries": []},
        [1, 2],
    ],
)
def test_a_geometry_that_is_none_leaves_its_feature_out(tmp_path, scenes, geometry):
    found = read(tmp_path, scenes, collection(geometry, DEGREES))
    assert [lost.box for lost in found.unusable] == ["feature 1"]
    assert len(found.images[0].boxes_scene) == 1


@pytest.mark.parametrize("number", ["NaN", "1e999", "-Infinity"])
def test_a_number_beyond_all_bounds_leaves_its_feature_out(tmp_path, scenes, number):
    bad = polygon([[12345, 1], [2, 2], [3, 1], [12345, 1]])
    found = read(tmp_path, scenes, json.dumps(collection(bad, DEGREES)).replace("12345", number))
    assert [lost.box for lost in found.unusable] == ["feature 1"]


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "holds a list"),
        ({"type": "Topology"}, "no FeatureCollection"),
        ({"type": "FeatureCollection", "features": {}}, "no FeatureCollection"),
        ({"type": "FeatureCollection", "features": [1]}, "no list of objects"),
        ({"type": "FeatureCollection", "features": []}, "which column"),
        (collection(DEGREES, crs=5), "member crs is 5"),
        (collection(DEGREES, crs={"properties": {"name": "nonsense"}}), "not understood"),
        (collection(DEGREES, crs={"properties": []}), "member crs"),
        (collection(polygon([[1, 2], [3, 4], [5, 2], [1, 2]])), "none of the 1 features"),
    ],
)
def test_what_is_no_layer_of_labels_is_refused_with_the_file(tmp_path, scenes, document, named):
    with pytest.raises(BadInput, match=named) as refused:
        read(tmp_path, scenes, document)
    assert "trees.geojson" in str(refused.value)


def test_the_columns_are_those_of_all_features(tmp_path, scenes):
    document = collection(DEGREES, DEGREES)
    document["features"][0]["properties"] = {"species": "oak", "height": 3}
    document["features"][1]["properties"] = None
    found = read(tmp_path, scenes, document)
    assert (found.label_set.names, [lost.reason for lost in found.unusable]) == (("oak",), ["it has no class"])
    assert read(tmp_path, scenes, document, ReadOptions(class_name="tree")).label_set.names == ("tree",)


def test_a_column_of_ids_is_no_column_of_classes(tmp_path, scenes):
    document = collection(*[DEGREES] * 30)
    for number, feature in enumerate(document["features"]):
        feature["properties"] = {"osm_id": f"way/{number}", "lanes": 2}
    with pytest.raises(BadInput, match="'osm_id' has 30 different values"):
        read(tmp_path, scenes, document)
    assert len(read(tmp_path, scenes, document, ReadOptions(class_column="osm_id")).label_set) == 30

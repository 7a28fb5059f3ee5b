import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

from connectors.formats import geopackage
from engine.boxes import Boxes
from engine.errors import BadInput, UsageError
from engine.records import GeoReference, SceneDetections

PLACES = ["utm", "rotated", "south up", "degrees", "web mercator", "feet"]
COLUMNS = ["id", "class", "score", "area_m2", "x1_px", "y1_px", "x2_px", "y2_px"]


@pytest.fixture
def scenes(fake):
    return fake("scenes")


def read(path):
    """The layer as columns by name, and its polygons."""
    meta, _, geometry, data = pyogrio.raw.read(path, layer=geopackage.LAYER)
    return dict(zip(meta["fields"], data, strict=True)), shapely.from_wkb(geometry), meta


def to_pixels(polygons, georeference):
    a, b, c, d, e, f = georeference.transform
    rings = np.stack([shapely.get_coordinates(polygon)[:-1] for polygon in polygons])
    return np.linalg.solve(np.array([[a, b], [d, e]]), (rings - [c, f]).reshape(-1, 2).T).T.reshape(rings.shape)


@pytest.mark.parametrize("place", PLACES)
def test_polygons_read_back_are_the_boxes_through_the_transform(scenes, place, tmp_path):
    detections = scenes.detections(place)
    geopackage.write(tmp_path / "layer.gpkg", detections)
    _, polygons, meta = read(tmp_path / "layer.gpkg")
    x1, y1, x2, y2 = detections.boxes_scene.xyxy.T
    expected = np.stack([np.stack(corner, 1) for corner in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))], axis=1)
    np.testing.assert_allclose(to_pixels(polygons, detections.georeference), expected, rtol=0, atol=1e-6 if place != "degrees" else 1e-5)
    assert CRS.from_user_input(meta["crs"]).to_epsg() == int(scenes.PLACES[place][0].split(":")[1])
    assert meta["geometry_type"] == "Polygon"


def test_columns_say_what_was_found(scenes, tmp_path):
    detections = scenes.detections("utm")
    geopackage.write(tmp_path / "layer.gpkg", detections)
    columns, _, _ = read(tmp_path / "layer.gpkg")
    boxes = detections.boxes_scene
    assert list(columns) == COLUMNS
    assert columns["id"].tolist() == [1, 2, 3, 4, 5]
    assert columns["class"].tolist() == [scenes.CLASSES.names[label] for label in boxes.labels]
    assert np.array_equal(columns["score"], boxes.scores)
    assert np.array_equal(np.stack([columns[name] for name in COLUMNS[-4:]], 1), boxes.xyxy)


@pytest.mark.parametrize(
    ("place", "pixel_area"),
    [
        pytest.param("utm", 0.01, id="metres"),
        pytest.param("rotated", 0.25, id="rotated"),
        pytest.param("south up", 0.04, id="south up"),
        pytest.param("degrees", 1e-12 * 111178.0 * 75467.0, id="degrees at 47.4 north"),
        pytest.param("web mercator", 0.36 * 0.2783, id="web mercator at 58 north"),
        pytest.param("feet", 0.3048006096**2, id="US feet"),
    ],
)
def test_areas_are_square_metres_on_the_ground(scenes, place, pixel_area, tmp_path):
    detections = scenes.detections(place, Boxes(np.array([[10.0, 10.0, 30.0, 20.0]]), [0], [0.5]))
    geopackage.write(tmp_path / "layer.gpkg", detections)
    assert read(tmp_path / "layer.gpkg")[0]["area_m2"][0] == pytest.approx(200 * pixel_area, rel=5e-3)


def test_a_picture_without_crs_is_written_in_pixels_with_the_undefined_reference_system(scenes, tmp_path):
    detections = scenes.detections()
    geopackage.write(tmp_path / "layer.gpkg", detections)
    columns, polygons, _ = read(tmp_path / "layer.gpkg")
    assert np.array_equal(shapely.bounds(polygons), detections.boxes_scene.xyxy)
    assert np.isnan(columns["area_m2"]).all()
    with sqlite3.connect(tmp_path / "layer.gpkg") as database:
        assert database.execute("select srs_id from gpkg_geometry_columns").fetchall() == [(-1,)]
    database.close()


@pytest.mark.parametrize("place", ["utm", None])
def test_nothing_found_is_a_valid_layer_without_features(scenes, place, tmp_path):
    geopackage.write(tmp_path / "layer.gpkg", scenes.detections(place, Boxes.empty(scored=True)))
    columns, polygons, meta = read(tmp_path / "layer.gpkg")
    assert list(columns) == COLUMNS
    assert len(polygons) == 0
    assert meta["geometry_type"] == "Polygon"


def test_a_file_that_is_there_is_replaced_and_nothing_else_is_left(scenes, tmp_path):
    path = tmp_path / "out" / "layer.gpkg"
    geopackage.write(path, scenes.detections("utm", number=3))
    geopackage.write(path, scenes.detections("rotated", number=7))
    assert len(read(path)[1]) == 7
    assert [entry.name for entry in path.parent.iterdir()] == ["layer.gpkg"]


@pytest.mark.parametrize(("wkt", "layer"), [("nonsense", "detections"), (None, "")])
def test_a_refused_layer_leaves_the_old_file_and_no_other(scenes, wkt, layer, tmp_path):
    path = tmp_path / "layer.gpkg"
    path.write_bytes(b"old")
    known = scenes.detections("utm")
    reference = GeoReference(wkt, (1, 0, 0, 0, -1, 0)) if wkt else known.georeference
    with pytest.raises(BadInput):
        geopackage.write(path, SceneDetections("s", 9, 9, reference, known.label_set, known.boxes_scene), layer=layer)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["layer.gpkg"]


@pytest.mark.parametrize("name", ["layer", "layer.json", "gpkg"])
def test_another_extension_is_wrong_use(scenes, name, tmp_path):
    with pytest.raises(UsageError, match=r"\.gpkg"):
        geopackage.write(tmp_path / name, scenes.detections("utm"))
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import scenes
from connectors.formats import geopackage
from engine.errors import BadInput
from engine.records import LabelFile
path = Path(sys.argv[1])
detections = scenes.detections("utm", number=3000)
labels = detections.as_label_file()
write = {"layer": lambda: geopackage.write(path, detections), "labels": lambda: geopackage.write_labels(path, labels)}[sys.argv[3]]
write()
whole = path.stat().st_size
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for share in (0.5, 0.82, 0.9, 0.99):
    path.unlink(missing_ok=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * whole), resource.RLIM_INFINITY))
    try:
        write()
        print("written")
    except BadInput as refused:
        print(refused)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert not path.exists()
"""


@pytest.mark.parametrize("what", ["layer", "labels"])
def test_a_full_disk_leaves_nothing_rather_than_a_layer_without_its_index(what, tmp_path):
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "layer.gpkg", root / "tests" / "fakes", what],
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    said = done.stdout.splitlines()
    assert len(said) == 4
    assert all("cannot be written" in line and "disk has room" in line for line in said), said
    assert list(tmp_path.iterdir()) == []

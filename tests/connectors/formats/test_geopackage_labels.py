import sqlite3

import numpy as np
import pyogrio
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.formats import geopackage
from connectors.formats.contract import ReadOptions
from engine.boxes import Boxes
from engine.errors import BadInput, UsageError
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile

CLASSES = LabelSet(("Gebäude", "tree"))
PLACES = ["utm", "rotated", "south up", "degrees", "web mercator", "feet", None]


def random_boxes(seed, count):
    generator = np.random.default_rng(seed)
    corner = generator.uniform(0, 250, (count, 2))
    return Boxes(np.concatenate([corner, corner + generator.uniform(1, 40, (count, 2))], axis=1), generator.integers(0, 2, count))


def labelled(fake, *places, seed=0, count=4):
    images = [
        ImageLabels(
            f"in/{number}.tif", 400, 300, random_boxes(seed + number, count), georeference=place and fake("scenes").georeference(place)
        )
        for number, place in enumerate(places)
    ]
    return LabelFile(CLASSES, tuple(images))


def scenes_of(fake, labels):
    return fake("frames").Scenes(*((image.image, image.width, image.height, image.georeference) for image in labels.images))


@settings(max_examples=15, deadline=None)
@given(places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 9))
def test_what_is_written_is_read_back(fake, places, seed, tmp_path_factory):
    labels = labelled(fake, *places, seed=seed)
    path = tmp_path_factory.mktemp("gpkg") / "labels.gpkg"
    geopackage.write_labels(path, labels)
    again = geopackage.read(path, scenes_of(fake, labels))
    assert again.unusable == ()
    assert [image.image for image in again.images] == [image.image for image in labels.images]
    for before, after in zip(labels.images, again.images, strict=True):
        np.testing.assert_allclose(after.boxes_scene.xyxy, before.boxes_scene.xyxy, atol=1e-4)
        assert [again.label_set.names[label] for label in after.boxes_scene.labels] == [
            CLASSES.names[label] for label in before.boxes_scene.labels
        ]


def test_scenes_that_overlap_keep_each_its_own_boxes(fake, tmp_path):
    labels = labelled(fake, "utm", "utm")
    geopackage.write_labels(tmp_path / "labels.gpkg", labels)
    assert [len(image.boxes_scene) for image in geopackage.read(tmp_path / "labels.gpkg", scenes_of(fake, labels)).images] == [4, 4]


@pytest.mark.parametrize(
    ("places", "layers"),
    [
        (["utm", "utm"], {"labels": 8}),
        (["utm", "feet", None], {"labels_epsg_32617": 4, "labels_epsg_2263": 4, "labels_pixels": 4}),
        ([None], {"labels_pixels": 4}),
    ],
)
def test_there_is_a_layer_for_each_coordinate_system_and_one_for_pixels(fake, tmp_path, places, layers):
    geopackage.write_labels(tmp_path / "labels.gpkg", labelled(fake, *places))
    found = {name: pyogrio.read_info(tmp_path / "labels.gpkg", layer=name) for name, _ in pyogrio.list_layers(tmp_path / "labels.gpkg")}
    assert {name: info["features"] for name, info in found.items()} == layers
    columns = ["scene", "class", "area_m2", "x1_px", "y1_px", "x2_px", "y2_px"]
    assert all(list(info["fields"]) == columns for info in found.values())
    with sqlite3.connect(tmp_path / "labels.gpkg") as database:
        ids = dict(database.execute("select table_name, srs_id from gpkg_geometry_columns").fetchall())
    database.close()
    assert {name: number == -1 for name, number in ids.items()} == {name: name == "labels_pixels" for name in layers}
    assert [entry.name for entry in tmp_path.iterdir()] == ["labels.gpkg"]


def test_nothing_to_write_and_another_name_are_refused_and_leave_nothing(fake, tmp_path):
    with pytest.raises(BadInput, match="no box"):
        geopackage.write_labels(tmp_path / "labels.gpkg", labelled(fake, "utm", count=0))
    with pytest.raises(UsageError, match=r"\.gpkg"):
        geopackage.write_labels(tmp_path / "labels.json", labelled(fake, "utm"))
    assert list(tmp_path.iterdir()) == []


def foreign(path, layer, *, columns=("kind",), geometry_type="Polygon", crs="EPSG:32617"):
    boxes = shapely.to_wkb(np.array([shapely.box(404_001, 3_285_990, 404_002, 3_285_992)]))
    pyogrio.raw.write(
        path,
        boxes if geometry_type else None,
        [np.array(["oak"], dtype=object)] * len(columns),
        list(columns),
        layer=layer,
        driver="GPKG",
        geometry_type=geometry_type,
        crs=crs if geometry_type else None,
    )


def test_a_layer_of_others_is_read_or_chosen_by_its_name(fake, tmp_path):
    path, scenes = tmp_path / "gis.gpkg", scenes_of(fake, labelled(fake, "utm"))
    foreign(path, "trees")
    foreign(path, "notes", geometry_type=None)
    found = geopackage.read(path, scenes)
    assert (found.label_set.names, found.source) == (("oak",), "gis.gpkg")
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, [[9.5, 85.5, 19.5, 105.5]], atol=1e-6)
    foreign(path, "roads", columns=("a", "b"))
    with pytest.raises(BadInput, match=r"the layers trees, roads.*--layer"):
        geopackage.read(path, scenes)
    assert len(geopackage.read(path, scenes, ReadOptions(layer="trees")).images) == 1
    with pytest.raises(BadInput, match=r"no layer 'tree'.*trees"):
        geopackage.read(path, scenes, ReadOptions(layer="tree"))
    with pytest.raises(BadInput, match=r"gis\.gpkg, layer roads: which column.*a, b"):
        geopackage.read(path, scenes, ReadOptions(layer="roads"))


def test_what_detect_wrote_comes_back(fake, tmp_path):
    detections = fake("scenes").detections("rotated")
    geopackage.write(tmp_path / "found.gpkg", detections)
    scenes = fake("frames").Scenes(("scene.tif", 400, 300, detections.georeference))
    found = geopackage.read(tmp_path / "found.gpkg", scenes)
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, detections.boxes_scene.xyxy, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_file_that_is_cut_off_is_refused_or_its_features_are_named(fake, tmp_path, share):
    labels = labelled(fake, "utm", count=200)
    geopackage.write_labels(tmp_path / "whole.gpkg", labels)
    content = (tmp_path / "whole.gpkg").read_bytes()
    (tmp_path / "cut.gpkg").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInput, match=r"cut\.gpkg"):
        geopackage.read(tmp_path / "cut.gpkg", scenes_of(fake, labels))


def test_labels_on_real_imagery_come_back(real_data, tmp_path, fake):
    from engine.imagery.raster import inspect_raster

    files = sorted((real_data / "geotiffs").glob("*.tif"))
    if not files:
        pytest.skip(f"{real_data / 'geotiffs'} holds no GeoTIFF")
    images = []
    for seed, file in enumerate(files):
        info = inspect_raster(file)
        boxes = random_boxes(seed, 5)
        spread = Boxes(boxes.xyxy * (np.array([info.width, info.height] * 2) / 300), boxes.labels)
        images.append(ImageLabels(file.name, info.width, info.height, spread, georeference=info.georeference))
    assert len({image.georeference.crs_wkt for image in images if image.georeference}) > 5
    labels = LabelFile(CLASSES, tuple(images))
    geopackage.write_labels(tmp_path / "labels.gpkg", labels)
    scenes = [(image.image, image.width, image.height, image.georeference) for image in labels.images]
    again = geopackage.read(tmp_path / "labels.gpkg", fake("frames").Scenes(*scenes))
    assert again.unusable == ()
    for before, after in zip(labels.images, again.images, strict=True):
        np.testing.assert_allclose(after.boxes_scene.xyxy, before.boxes_scene.xyxy, atol=1e-3)

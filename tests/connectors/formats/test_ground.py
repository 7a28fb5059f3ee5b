import math

import numpy as np
import pytest
import shapely
import shapely.affinity
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from connectors.formats.contract import ReadOptions
from connectors.formats.features import FeatureLayer
from connectors.formats.ground import place
from engine.errors import BadInput
from engine.records import GeoReference

PLACES = ["utm", "rotated", "south up", "degrees", "web mercator", "feet"]
UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 3_300_000.0)


def corners(georeference, x1, y1, x2, y2):
    a, b, c, d, e, f = georeference.transform
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in ((x1, y1), (x2, y1), (x2, y2), (x1, y2))]


def polygon(georeference, *box):
    return shapely.Polygon(corners(georeference, *box))


def layer(*geometries, crs="EPSG:32617", classes=None, **more):
    array = np.full(len(geometries), None, dtype=object)
    array[:] = geometries
    return FeatureLayer("trees.gpkg", crs, list(range(1, len(array) + 1)), array, classes or ["tree"] * len(array), **more)


def boxes(labels):
    return {image.image: np.round(image.boxes_scene.xyxy, 6).tolist() for image in labels.images}


def reasons(labels):
    return {lost.box: lost.reason for lost in labels.unusable}


@pytest.fixture
def here():
    return GeoReference(CRS("EPSG:32617").to_wkt(), UTM)


@pytest.fixture
def scenes(fake, here):
    """Two scenes of 100 × 100 pixels side by side that share 20 columns, one far away, and a plain picture."""
    beside = GeoReference(here.crs_wkt, (0.5, 0.0, 400_040.0, 0.0, -0.5, 3_300_000.0))
    far = GeoReference(CRS("EPSG:32618").to_wkt(), UTM)
    return fake("frames").Scenes(("a.tif", 100, 100, here), ("b.tif", 100, 100, beside), ("far.tif", 100, 100, far), ("c.png", 100, 100))


def test_a_polygon_becomes_the_upright_hull_in_the_pixels_of_its_scene(scenes, here):
    turned = shapely.Polygon([(400_010, 3_299_990), (400_015, 3_299_985), (400_010, 3_299_980), (400_005, 3_299_985)])
    found = place([layer(turned, polygon(here, 1, 2, 3.5, 4), classes=["tree", "car"])], scenes, ReadOptions(), "trees.gpkg")
    assert boxes(found) == {"a.tif": [[10, 20, 30, 40], [1, 2, 3.5, 4]]}
    assert (found.label_set.names, found.images[0].boxes_scene.labels.tolist()) == (("car", "tree"), [1, 0])
    assert (found.images[0].scene_id, found.source, found.unusable) == (1, "trees.gpkg", ())


@pytest.mark.parametrize("place_name", PLACES)
@pytest.mark.parametrize("layer_crs", ["own", "OGC:CRS84"])
def test_the_layer_is_brought_into_the_coordinate_system_of_the_scene(fake, place_name, layer_crs):
    here = fake("scenes").georeference(place_name)
    box = (10.25, 20.5, 60, 33)
    outline = np.array(corners(here, *box))
    if layer_crs != "own":
        outline = np.stack(Transformer.from_crs(CRS.from_wkt(here.crs_wkt), layer_crs, always_xy=True).transform(*outline.T), 1)
    crs = here.crs_wkt if layer_crs == "own" else layer_crs
    found = place([layer(shapely.Polygon(outline), crs=crs)], fake("frames").Scenes(("a.tif", 400, 300, here)), ReadOptions(), "x")
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, [box], atol=5e-3 if layer_crs != "own" else 1e-4)


def test_every_scene_that_shows_enough_of_a_feature_has_it_cut_off_at_its_edge(scenes, here):
    both, mostly_a = polygon(here, 85, 10, 95, 20), polygon(here, 70, 30, 90, 40)
    sticks_out, too_far = polygon(here, -5, 50, 5, 60), polygon(here, -8, 70, 2, 80)
    found = place([layer(both, mostly_a, sticks_out, too_far)], scenes, ReadOptions(), "x")
    assert boxes(found) == {"a.tif": [[85, 10, 95, 20], [70, 30, 90, 40], [0, 50, 5, 60]], "b.tif": [[5, 10, 15, 20], [0, 30, 10, 40]]}
    assert reasons(found) == {"feature 4": "20% of it lies in a scene at most, and 40% are needed"}
    found = place([layer(both, mostly_a, sticks_out, too_far)], scenes, ReadOptions(minimum_visible=0.2), "x")
    assert [0, 70, 2, 80] in boxes(found)["a.tif"]


def test_what_lies_outside_of_every_scene_is_named_and_the_rest_is_taken(scenes, here):
    found = place([layer(polygon(here, 1, 1, 9, 9), polygon(here, 5000, 1, 5009, 9))], scenes, ReadOptions(), "x")
    assert boxes(found) == {"a.tif": [[1, 1, 9, 9]]}
    assert [(lost.image, lost.box, lost.reason) for lost in found.unusable] == [
        ("trees.gpkg", "feature 2", "it lies outside of every scene")
    ]


def test_a_layer_of_which_nothing_lies_in_a_scene_is_refused(scenes, here):
    with pytest.raises(BadInput, match="none of the 1 features of x lies in a scene; the first, feature 1: it lies outside"):
        place([layer(polygon(here, 5000, 1, 5009, 9))], scenes, ReadOptions(), "x")
    with pytest.raises(BadInput, match="none of the 0 features"):
        place([layer()], scenes, ReadOptions(), "x")


def test_a_feature_of_several_parts_and_a_closed_line_are_one_object_each(scenes, here):
    parts = shapely.MultiPolygon([polygon(here, 1, 1, 5, 5), polygon(here, 8, 8, 9, 9)])
    line = shapely.LineString([*corners(here, 20, 20, 30, 30), corners(here, 20, 20, 30, 30)[0]])
    assert boxes(place([layer(parts, line)], scenes, ReadOptions(), "x")) == {"a.tif": [[1, 1, 9, 9], [20, 20, 30, 30]]}


def test_what_is_no_outline_is_named_with_the_reason(scenes, here):
    good = polygon(here, 1, 1, 5, 5)
    (x, y), *_ = corners(here, 7, 7, 9, 9)
    with np.errstate(invalid="ignore"):
        endless = shapely.LineString([(x, y), (math.nan, y), (x + 1, y + 1), (x, y)])
    bad = {
        "no geometry": None,
        "empty": shapely.Polygon(),
        "not a finite number": endless,
        "not closed": shapely.LineString([(x, y), (x + 1, y), (x + 1, y + 1)]),
        "no outline": shapely.GeometryCollection([good]),
        "is no outline": shapely.MultiPoint([(x, y), (x + 1, y + 1)]),
        "no area": shapely.Polygon([(x, y), (x + 1, y), (x + 2, y)]),
        "no class": good,
    }
    classes = ["tree"] * len(bad) + ["tree"]
    classes[len(bad) - 1] = None
    found = place([layer(*bad.values(), good, classes=classes)], scenes, ReadOptions(), "x")
    assert boxes(found) == {"a.tif": [[1, 1, 5, 5]]}
    for (part, _), reason in zip(bad.items(), found.unusable, strict=True):
        assert part in reason.reason


def test_points_are_refused_or_become_boxes_of_a_stated_size(scenes, here):
    (point, *_), (multi, *_) = corners(here, 50, 50, 60, 60), corners(here, 0, 0, 9, 9)
    points = layer(shapely.Point(point), shapely.MultiPoint([multi]))
    with pytest.raises(BadInput, match=r"2 points.*--point-size"):
        place([points], scenes, ReadOptions(), "x")
    found = place([points], scenes, ReadOptions(point_size=5.0, minimum_visible=0.25), "x")
    (at_centre, at_corner) = found.images[0].boxes_scene.xyxy
    np.testing.assert_allclose(at_centre, [45, 45, 55, 55], atol=0.01)
    np.testing.assert_allclose(at_corner, [0, 0, 5, 5], atol=0.01)


def test_a_layer_without_a_coordinate_system_wants_one_stated(scenes, here):
    box = polygon(here, 1, 1, 9, 9)
    with pytest.raises(BadInput, match=r"states no coordinate system.*--crs"):
        place([layer(box, crs=None)], scenes, ReadOptions(), "x")
    with pytest.raises(BadInput, match=r"states no coordinate system"):
        place([layer(box, crs='LOCAL_CS["site",UNIT["Meter",1]]')], scenes, ReadOptions(), "x")
    for crs in (None, "EPSG:32617"):
        assert boxes(place([layer(box, crs=crs)], scenes, ReadOptions(crs="EPSG:32617"), "x")) == {"a.tif": [[1, 1, 9, 9]]}
    with pytest.raises(BadInput, match=r"UTM zone 17N.*UTM zone 18N"):
        place([layer(box)], scenes, ReadOptions(crs="EPSG:32618"), "x")
    for wrong in ({"crs": "nonsense"}, {"crs": None}):
        with pytest.raises(BadInput, match="is not understood"):
            place([layer(box, **wrong)], scenes, ReadOptions(crs="nonsense"), "x")


def test_scenes_that_no_way_leads_to_are_passed_over_and_plain_pictures_are_not_enough(fake, here):
    site = GeoReference('LOCAL_CS["site",UNIT["Meter",1]]', UTM)
    box = layer(polygon(here, 1, 1, 9, 9))
    frames = fake("frames").Scenes
    assert boxes(place([box], frames(("site.tif", 100, 100, site), ("a.tif", 100, 100, here)), ReadOptions(), "x")) == {
        "a.tif": [[1, 1, 9, 9]]
    }
    with pytest.raises(BadInput, match="no way leads"):
        place([box], frames(("site.tif", 100, 100, site)), ReadOptions(), "x")
    with pytest.raises(BadInput, match="no scene of this workspace does"):
        place([box], frames(("c.png", 100, 100)), ReadOptions(), "x")


def test_a_feature_that_names_its_scene_goes_to_that_one_alone(scenes, here):
    shared = polygon(here, 85, 10, 95, 20)
    found = place([layer(shared, shared, shared, scenes=["b.tif", "gone.tif", None])], scenes, ReadOptions(), "x")
    assert {image: len(found) for image, found in boxes(found).items()} == {"a.tif": 2, "b.tif": 3}


def test_a_feature_whose_scene_has_a_twin_goes_to_scenes_of_that_name_alone(fake, here):
    twins = fake("frames").Scenes(("2019/a.tif", 100, 100, here), ("2021/a.tif", 100, 100, here), ("b.tif", 100, 100, here))
    found = place([layer(polygon(here, 1, 1, 9, 9), scenes=["a.tif"])], twins, ReadOptions(), "x")
    assert sorted(boxes(found)) == ["2019/a.tif", "2021/a.tif"]


OVER = [(100, 100, 300, 200), (900, 400, 1100, 500), (1500, 700, 1700, 900)]
"""West of the antimeridian, over it, and east of it, in scenes of 2000 x 1000 pixels."""


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:4326", (5e-5, 0.0, 179.95, 0.0, -5e-5, 60.0)),
        ("EPSG:4326", (5e-5, 0.0, -180.05, 0.0, -5e-5, 60.0)),
        ("EPSG:3857", (5.0, 0.0, 20037508.342789244 - 5000, 0.0, -5.0, 8_000_000.0)),
        ("EPSG:32601", (5.0, 0.0, 160_000.0, 0.0, -5.0, 6_650_000.0)),
    ],
)
@pytest.mark.parametrize("written", ["wrapped and cut", "as the scene has it", "in one ring that jumps"])
def test_features_over_the_antimeridian_are_on_scenes_over_it(fake, crs, transform, written):
    here = GeoReference(CRS(crs).to_wkt(), transform)
    outlines = [np.array(corners(here, *box)) for box in OVER]
    if written != "as the scene has it":
        to_degrees = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
        outlines = [np.stack(to_degrees.transform(*outline.T), 1) for outline in outlines]
        outlines = [np.stack([(outline[:, 0] + 180) % 360 - 180, outline[:, 1]], 1) for outline in outlines]
    polygons = [shapely.Polygon(outline) for outline in outlines]
    if written == "wrapped and cut":
        polygons = [cut(outline) for outline in outlines]
    found = place(
        [layer(*polygons, crs=here.crs_wkt if written == "as the scene has it" else "OGC:CRS84")],
        fake("frames").Scenes(("a.tif", 2000, 1000, here), ("far.tif", 2000, 1000, GeoReference(CRS("EPSG:4326").to_wkt(), HOME))),
        ReadOptions(),
        "x",
    )
    assert reasons(found) == {}
    (image,) = found.images
    np.testing.assert_allclose(image.boxes_scene.xyxy, OVER, atol=0.01)


HOME = (5e-5, 0.0, 8.5, 0.0, -5e-5, 60.0)


def cut(outline):
    """The polygon in longitudes of -180 to 180, in two parts where it lies over the antimeridian."""
    if np.ptp(outline[:, 0]) <= 180:
        return shapely.Polygon(outline)
    whole = shapely.Polygon(outline + [360, 0] * (outline[:, :1] < 0))
    east, west = (whole.intersection(shapely.box(start, -90, start + 180, 90)) for start in (0, 180))
    return shapely.MultiPolygon([east, shapely.affinity.translate(west, -360)])


def test_a_layer_in_pixels_goes_by_the_names_of_its_scenes(scenes):
    local = 'LOCAL_CS["Undefined Cartesian SRS",UNIT["Meter",1]]'
    array = layer(
        shapely.box(1, 2, 3, 4), shapely.box(5, 5, 9, 9), shapely.box(500, 5, 509, 9), crs=local, scenes=["c.png", "z.png", "c.png"]
    )
    found = place([array], scenes, ReadOptions(), "x")
    assert boxes(found) == {"c.png": [[1, 2, 3, 4]], "z.png": []}
    assert reasons(found) == {"feature 3": "it lies outside of every scene"}


def test_features_where_the_coordinate_system_does_not_reach_are_outside(scenes, here):
    pole = shapely.box(-170, 89, 170, 90)
    a = np.array(Transformer.from_crs("EPSG:32617", "OGC:CRS84", always_xy=True).transform(*np.array(corners(here, 1, 1, 9, 9)).T)).T
    found = place([layer(pole, shapely.Polygon(a), shapely.box(1e300, 1e300, 1e301, 1e301), crs="OGC:CRS84")], scenes, ReadOptions(), "x")
    assert reasons(found) == dict.fromkeys(("feature 1", "feature 3"), "it lies outside of every scene")


@settings(max_examples=60, deadline=None)
@given(
    angle=st.floats(0, 2 * math.pi),
    pixel=st.floats(0.01, 100),
    flip=st.sampled_from([1, -1]),
    box=st.tuples(st.floats(0, 900), st.floats(0, 900), st.floats(1, 100), st.floats(1, 100)),
)
def test_a_box_laid_on_the_ground_comes_back(fake, angle, pixel, flip, box):
    cos, sin = pixel * math.cos(angle), pixel * math.sin(angle)
    here = GeoReference(CRS("EPSG:32617").to_wkt(), (cos, -flip * sin, 400_000.0, sin, flip * cos, 3_300_000.0))
    x, y, width, height = box
    scene = fake("frames").Scenes(("a.tif", 1000, 1000, here))
    found = place([layer(polygon(here, x, y, x + width, y + height))], scene, ReadOptions(), "x")
    np.testing.assert_allclose(found.images[0].boxes_scene.xyxy, [[x, y, x + width, y + height]], atol=1e-5)

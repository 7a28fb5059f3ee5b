import pytest
from pyproj import CRS

from engine.imagery.georeference import ground_sample_distance
from engine.records import GeoReference

LOCAL = 'ENGCRS["site",EDATUM["site"],CS[Cartesian,2],AXIS["x",east],AXIS["y",north],LENGTHUNIT["foot",0.3048]]'


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32633", (0.25, 0, 500000, 0, -0.25, 5000000), 0.25),
        ("EPSG:32633", (0.1, 0, 500000, 0, -0.4, 5000000), 0.2),
        ("EPSG:32633", (0, 0.5, 500000, 0.5, 0, 5000000), 0.5),
        ("EPSG:3857", (1.0, 0, 0, 0, -1.0, 0), 1.0),
        ("EPSG:3857", (1.0, 0, 0, 0, -1.0, 8399737.9), 0.5),
        ("EPSG:4326", (1e-5, 0, 0, 0, -1e-5, 0), 1.1095),
        ("EPSG:2263", (1.0, 0, 985000, 0, -1.0, 200000), 0.3048),
        (LOCAL, (2.0, 0, 0, 0, -2.0, 0), 0.6096),
    ],
)
@pytest.mark.guarantee("G18")
def test_it_is_metres_on_the_ground_whatever_the_crs(crs, transform, metres):
    found = ground_sample_distance(GeoReference(CRS.from_user_input(crs).to_wkt(), transform), 100, 80)
    assert found == pytest.approx(metres, rel=5e-3)


@pytest.mark.parametrize(
    ("wkt", "transform"),
    [("no crs at all", (1, 0, 0, 0, -1, 0)), (CRS.from_epsg(32633).to_wkt(), (1, 0, 1e12, 0, -1, 1e12))],
)
def test_it_is_unknown_where_the_place_is(wkt, transform):
    assert ground_sample_distance(GeoReference(wkt, transform), 100, 80) is None

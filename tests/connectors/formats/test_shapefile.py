import numpy as np
import pyogrio
import pytest
import shapely
from pyproj import CRS

from connectors.formats import shapefile
from connectors.formats.contract import ReadOptions
from engine.errors import BadInput
from engine.records import GeoReference

UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 3_300_000.0)
BOX = shapely.box(400_005, 3_299_980, 400_015, 3_299_990)


@pytest.fixture
def scenes(fake):
    return fake("frames").Scenes(("a.tif", 100, 100, GeoReference(CRS("EPSG:32617").to_wkt(), UTM)))


def write(path, *, names=("tree",), geometries=(BOX,), columns=("class",), encoding=None):
    values = [np.array(names, dtype=object)] * len(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(np.array(geometries)),
        values,
        list(columns),
        driver="ESRI Shapefile",
        geometry_type=geometries[0].geom_type,
        crs="EPSG:32617",
        encoding=encoding,
    )
    return path


def test_a_shapefile_is_read_with_its_table_and_coordinate_system(tmp_path, scenes):
    found = shapefile.read(write(tmp_path / "trees.shp"), scenes)
    assert (found.label_set.names, found.source) == (("tree",), "trees.shp")
    assert found.images[0].boxes_scene.xyxy.tolist() == [[10, 20, 30, 40]]


@pytest.mark.parametrize("encoding", ["UTF-8", "ISO-8859-1"])
def test_text_is_in_the_encoding_that_the_table_names(tmp_path, scenes, encoding):
    assert shapefile.read(write(tmp_path / "x.shp", names=["bâteau"], encoding=encoding), scenes).label_set.names == ("bâteau",)


@pytest.mark.parametrize("name", ["a!b.shp", "a?b.shp", "a;b.shp", "a.zip.shp", "http:a.shp", "zip+s3:a.shp", "TREES.SHP"])
def test_a_name_means_nothing_but_its_file(tmp_path, scenes, name):
    for part in write(tmp_path / "made" / "x.shp").parent.iterdir():
        suffix = part.suffix.upper() if name.isupper() else part.suffix
        part.rename(tmp_path / f"{name[:-4]}{suffix}")
    found = shapefile.read(tmp_path / name, scenes)
    assert (found.source, len(found.images[0].boxes_scene)) == (name, 1)


def test_without_its_coordinate_system_one_is_stated(tmp_path, scenes):
    path = write(tmp_path / "trees.shp")
    path.with_suffix(".prj").unlink()
    with pytest.raises(BadInput, match=r"trees\.shp states no coordinate system"):
        shapefile.read(path, scenes)
    assert len(shapefile.read(path, scenes, ReadOptions(crs="EPSG:32617")).images) == 1


@pytest.mark.parametrize("part", [".shx", ".dbf"])
def test_a_part_that_is_missing_is_told_of(tmp_path, scenes, part):
    path = write(tmp_path / "trees.shp")
    path.with_suffix(part).unlink()
    with pytest.raises(BadInput, match=r"trees\.shp"):
        shapefile.read(path, scenes)


@pytest.mark.parametrize("keep", [4, 60, 150])
def test_a_file_that_is_cut_off_is_refused(tmp_path, scenes, keep):
    path = write(tmp_path / "trees.shp")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"trees\.shp"):
        shapefile.read(path, scenes)


def test_points_become_boxes_of_a_stated_size(tmp_path, scenes):
    path = write(tmp_path / "trees.shp", geometries=[shapely.Point(400_010, 3_299_985)])
    with pytest.raises(BadInput, match="1 points"):
        shapefile.read(path, scenes)
    (box,) = shapefile.read(path, scenes, ReadOptions(point_size=10)).images[0].boxes_scene.xyxy
    np.testing.assert_allclose(box, [10, 20, 30, 40], atol=0.05)


@pytest.mark.guarantee("G14")
def test_a_part_that_is_a_link_out_of_the_folder_is_refused(tmp_path, scenes):
    path = write(tmp_path / "in" / "trees.shp")
    path.with_suffix(".dbf").rename(tmp_path / "secret.dbf")
    path.with_suffix(".dbf").symlink_to(tmp_path / "secret.dbf")
    with pytest.raises(BadInput, match=r"trees\.dbf is a link that leads out"):
        shapefile.read(path, scenes)

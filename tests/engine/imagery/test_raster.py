import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine

from engine.errors import UnreadableImage, UsageError
from engine.imagery.raster import Raster, RasterLimits, inspect_raster, needs_tiling, rewrite_tiled, sniff
from engine.records import Window

UTM = "EPSG:32617"
NORTH_UP = Affine(0.1, 0, 404211.9, 0, -0.1, 3285142.9)


def write_tiff(path: Path, pixels, *, crs=None, transform=None, colours=None, palette=None, **options):
    """Write pixels (bands, height, width) as a GeoTIFF."""
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=count, dtype=pixels.dtype, crs=crs, transform=transform, **options
        ) as dataset:
            if colours:
                dataset.colorinterp = colours
            dataset.write(pixels)
            if palette:
                dataset.write_colormap(1, palette)
    return path


def ramp(bands=3, height=40, width=48, dtype=np.uint8, top=255):
    return (np.arange(bands * height * width) % (top + 1)).reshape(bands, height, width).astype(dtype)


def read_all(path):
    with Raster(path) as raster:
        return raster.read(Window(0, 0, raster.info.width, raster.info.height))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"II*\x00\x08", "GTiff"),
        (b"MM\x00*", "GTiff"),
        (b"II+\x00", "GTiff"),
        (b"<VRTDataset>", None),
        (b"%!PS", None),
        (b"GIF89a", None),
        (b"\xff\xd8", None),
        (b"", None),
    ],
)
def test_formats_are_told_by_their_first_bytes(head, expected):
    assert sniff(head) == expected


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_a_picture_has_its_size_and_pixels_and_no_georeference(write_picture, tmp_path, suffix):
    path = write_picture(tmp_path / f"a.{suffix}", width=64, height=48)
    info = inspect_raster(path)
    assert (info.width, info.height, info.bands, info.dtype) == (64, 48, 3, "uint8")
    assert info.georeference is None
    assert info.ground_sample_distance is None
    if suffix != "jpg":
        assert (read_all(path) == np.asarray(Image.open(path))).all()


def test_a_window_is_read_alone(tmp_path):
    pixels = ramp()
    path = write_tiff(tmp_path / "a.tif", pixels)
    with Raster(path) as raster:
        window = raster.read(Window(5, 7, 20, 10))
    assert (window == pixels[:, 7:17, 5:25].transpose(1, 2, 0)).all()
    assert window.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("window", [Window(-1, 0, 5, 5), Window(0, 0, 49, 5), Window(0, 36, 5, 5), Window(0, 0, 0, 5)])
def test_a_window_outside_the_scene_is_refused(tmp_path, window):
    with Raster(write_tiff(tmp_path / "a.tif", ramp())) as raster, pytest.raises(UsageError):
        raster.read(window)


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (ramp(1), {}, lambda p: np.repeat(p, 3, axis=0)),
        (ramp(3), {}, lambda p: p),
        (ramp(4), {}, lambda p: p[:3]),
        (ramp(4), {"colours": [ColorInterp.blue, ColorInterp.green, ColorInterp.red, ColorInterp.undefined]}, lambda p: p[2::-1]),
        (ramp(2), {"colours": [ColorInterp.gray, ColorInterp.alpha]}, lambda p: np.repeat(p[:1], 3, axis=0)),
        (ramp(1, top=1), {"nbits": 1}, lambda p: np.repeat(p * 255, 3, axis=0)),
        (ramp(3, top=15), {"nbits": 4}, lambda p: p * 17),
        (ramp(1, dtype=np.uint16, top=60000), {}, None),
        (ramp(3, dtype=np.int16, top=3000), {}, None),
        (ramp(4, dtype=np.float32, top=1000), {}, None),
    ],
)
def test_bands_become_rgb_by_the_stated_rule(tmp_path, pixels, options, expected):
    rgb = read_all(write_tiff(tmp_path / "a.tif", pixels, **options))
    assert rgb.shape == (40, 48, 3)
    if expected is None:
        band = pixels[0].astype(float)
        low, high = np.percentile(band, (2, 98))
        assert np.abs(rgb[:, :, 0] - np.clip((band - low) / (high - low), 0, 1) * 255).max() <= 0.51
    else:
        assert (rgb == expected(pixels).transpose(1, 2, 0)).all()


@pytest.mark.guarantee("G18")
def test_a_palette_is_shown_in_its_colours(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(1, top=2), palette={0: (1, 2, 3, 255), 1: (10, 20, 30, 255), 2: (100, 200, 50, 255)})
    assert read_all(path)[0, :3].tolist() == [[1, 2, 3], [10, 20, 30], [100, 200, 50]]


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize("pixels", [ramp(8), ramp(5), ramp(3).astype(np.complex64), ramp(3).astype(np.int8)])
def test_bands_without_a_rule_are_refused(tmp_path, pixels):
    path = write_tiff(tmp_path / "a.tif", pixels)
    with pytest.raises(UnreadableImage, match=r"a\.tif"):
        inspect_raster(path)


@pytest.mark.guarantee("G18")
def test_the_stretch_does_not_depend_on_the_window(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 4000, (3, 300, 1400), dtype=np.uint16)
    path = write_tiff(tmp_path / "a.tif", pixels)
    whole = read_all(path)
    with Raster(path) as raster:
        assert (raster.read(Window(1300, 200, 100, 100)) == whole[200:, 1300:]).all()


@pytest.mark.guarantee("G18")
def test_an_overview_is_the_mean_of_what_it_stands_for(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp(height=40, width=48))
    with Raster(path) as raster:
        assert np.array_equal(raster.overview(48, 40), raster.read(Window(0, 0, 48, 40)))
        small = raster.overview(12, 10)
        exact = raster.read(Window(0, 0, 48, 40)).reshape(10, 4, 12, 4, 3).mean(axis=(1, 3))
    assert small.shape == (10, 12, 3)
    assert np.abs(small - exact).max() <= 1


def test_an_overview_of_a_palette_has_its_colours_alone(tmp_path):
    palette = {0: (10, 20, 30, 255), 200: (250, 0, 0, 255)}
    pixels = np.where(ramp(bands=1, top=1) > 0, 200, 0).astype(np.uint8)
    with Raster(write_tiff(tmp_path / "a.tif", pixels, palette=palette)) as raster:
        colours = raster.overview(11, 7).reshape(-1, 3)
    assert {tuple(colour) for colour in colours.tolist()} <= {(10, 20, 30), (250, 0, 0)}


@pytest.mark.parametrize("size", [(49, 40), (48, 41), (0, 1), (1, 0)])
def test_an_overview_larger_than_the_scene_is_refused(tmp_path, size):
    with Raster(write_tiff(tmp_path / "a.tif", ramp())) as raster, pytest.raises(UsageError, match="overview"):
        raster.overview(*size)


def test_the_orientation_in_exif_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0132] = "2024:05:06 07:08:09"
    Image.new("RGB", (40, 20), (9, 9, 9)).save(tmp_path / "a.jpg", exif=exif)
    info = inspect_raster(tmp_path / "a.jpg")
    assert (info.width, info.height) == (40, 20)
    assert info.captured == "2024-05-06T07:08:09"


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        (UTM, NORTH_UP, 0.1),
        (UTM, Affine(0.0866025404, 0.05, 404211.9, 0.05, -0.0866025404, 3285142.9), 0.1),
        ("EPSG:2263", Affine(1, 0, 985000, 0, -1, 200000), 0.3048),
        ("EPSG:4326", Affine(1e-5, 0, 10, 0, -1e-5, 60), np.sqrt(0.5 * 1.11320 * 1.11412)),
        ("EPSG:3857", Affine(1, 0, 1113194, 0, -1, 8399737), 0.5),
    ],
)
def test_the_ground_sample_distance_is_in_metres_on_the_ground(tmp_path, crs, transform, metres):
    info = inspect_raster(write_tiff(tmp_path / "a.tif", ramp(), crs=crs, transform=transform))
    assert info.georeference.transform == pytest.approx(tuple(transform)[:6], abs=1e-9)
    assert rasterio.crs.CRS.from_wkt(info.georeference.crs_wkt) == rasterio.crs.CRS.from_user_input(crs)
    assert info.ground_sample_distance == pytest.approx(metres, rel=5e-3)


@pytest.mark.guarantee("G18")
def test_a_transform_without_a_crs_is_no_georeference(tmp_path):
    assert inspect_raster(write_tiff(tmp_path / "a.tif", ramp(), transform=NORTH_UP)).georeference is None


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize(("bent", "found"), [(0.0, True), (40.0, False)])
def test_ground_control_points_count_where_one_transform_meets_them(tmp_path, bent, found):
    corners = [(0, 0), (0, 48), (40, 0), (40, 48)]
    gcps = [GroundControlPoint(row, column, 500000 + column * 2, 4000000 - row * 2) for row, column in corners]
    gcps[3].x += bent
    path = write_tiff(tmp_path / "a.tif", ramp(), crs=UTM, gcps=gcps)
    georeference = inspect_raster(path).georeference
    assert (georeference is not None) == found
    if found:
        assert georeference.transform == pytest.approx((2, 0, 500000, 0, -2, 4000000), abs=1e-6)


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"nodata": 0}, 0.75),
        ({"crs": UTM, "transform": NORTH_UP}, 0.75),
        ({}, 1.0),
        ({"nodata": 7}, 1.0),
    ],
)
def test_the_valid_share_follows_nodata_and_the_black_collar(tmp_path, options, expected):
    pixels = np.full((3, 40, 48), 90, dtype=np.uint8)
    pixels[:, :20, :24] = 0
    with Raster(write_tiff(tmp_path / "a.tif", pixels, **options)) as raster:
        assert raster.valid_share(Window(0, 0, 48, 40)) == expected
        assert raster.valid_share(Window(24, 0, 24, 40)) == 1.0


def test_the_valid_share_follows_alpha(tmp_path):
    pixels = np.zeros((20, 20, 4), dtype=np.uint8)
    pixels[:5, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with Raster(tmp_path / "a.png") as raster:
        assert raster.valid_share(Window(0, 0, 20, 20)) == 0.25


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (RasterLimits(max_pixels=1000), "pixels"),
        (RasterLimits(max_picture_pixels=1000), "pixels in a PNG"),
        (RasterLimits(max_bytes=3000), "decoded bytes"),
        (RasterLimits(max_block_bytes=100), "block"),
        (RasterLimits(max_bands=2), "bands"),
    ],
)
def test_a_raster_over_a_cap_is_refused_before_it_is_decoded(write_picture, tmp_path, limits, what):
    path = write_picture(tmp_path / "a.png", width=64, height=48)
    with pytest.raises(UnreadableImage, match=what):
        inspect_raster(path, limits)


@pytest.mark.guarantee("G10")
def test_a_tiff_that_claims_a_huge_size_is_refused(tmp_path):
    path = tmp_path / "bomb.tif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        rasterio.open(
            path, "w", driver="GTiff", width=60_000, height=60_000, count=1, dtype="uint8", nbits=1, tiled=True, sparse_ok=True
        ).close()
    assert path.stat().st_size < 2_000_000
    with pytest.raises(UnreadableImage, match="3600000000 pixels"):
        inspect_raster(path)


@pytest.mark.guarantee("G16")
@pytest.mark.parametrize(
    "content",
    [
        b"<VRTDataset rasterXSize='1' rasterYSize='1'><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0",
        b"GIF89a" + bytes(50),
        b"P6 1 1 255 abc",
        b"",
    ],
)
def test_a_disguised_format_is_refused(tmp_path, content):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage):
        inspect_raster(path)


@pytest.mark.guarantee("G16")
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_sidecar_files_have_no_effect(tmp_path):
    path = write_tiff(tmp_path / "a.tif", ramp())
    (tmp_path / "a.tif.aux.xml").write_text("<PAMDataset><SRS>EPSG:4326</SRS><GeoTransform>0,1,0,0,0,1</GeoTransform></PAMDataset>")
    (tmp_path / "a.tfw").write_text("1\n0\n0\n-1\n5\n5\n")
    write_tiff(tmp_path / "a.tif.msk", np.zeros((1, 40, 48), dtype=np.uint8))
    with rasterio.open(tmp_path / "a.tif.msk", "r+") as mask:
        mask.update_tags(INTERNAL_MASK_FLAGS_1="2")
    with Raster(path) as raster:
        assert raster.info.georeference is None
        assert raster.valid_share(Window(0, 0, 48, 40)) == 1.0


def test_a_missing_file_is_an_unreadable_image(tmp_path):
    with pytest.raises(UnreadableImage, match="nowhere"):
        inspect_raster(tmp_path / "nowhere.png")


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (ramp(4), {"crs": UTM, "transform": NORTH_UP, "nodata": 3}),
        (ramp(3, dtype=np.uint16, top=4000), {"crs": "EPSG:4326", "transform": Affine(1e-5, 0, 10, 0, -1e-5, 60)}),
        (ramp(1, top=2), {"palette": {0: (1, 2, 3, 255), 1: (10, 20, 30, 255), 2: (100, 200, 50, 255)}}),
    ],
)
def test_a_raster_is_rewritten_in_tiles_without_a_change(tmp_path, pixels, options):
    source = write_tiff(tmp_path / "a.tif", pixels, **options)
    rewrite_tiled(source, tmp_path / "b.tif")
    before, after = inspect_raster(source), inspect_raster(tmp_path / "b.tif")
    assert (before.width, before.height, before.bands, before.dtype, before.georeference, before.nodata) == (
        after.width,
        after.height,
        after.bands,
        after.dtype,
        after.georeference,
        after.nodata,
    )
    assert (read_all(source) == read_all(tmp_path / "b.tif")).all()


@pytest.mark.parametrize(("width", "options", "expected"), [(5000, {}, True), (4096, {}, False), (5000, {"tiled": True}, False)])
def test_only_large_rasters_without_tiles_need_them(tmp_path, width, options, expected):
    path = write_tiff(tmp_path / "a.tif", np.ones((1, 64, width), dtype=np.uint8), **options)
    assert needs_tiling(inspect_raster(path)) == expected
    if expected:
        rewrite_tiled(path, tmp_path / "b.tif")
        assert not needs_tiling(inspect_raster(tmp_path / "b.tif"))


@pytest.mark.parametrize("name", ["OSBS_029.tif", "cog_rgba.tif", "cog_cmap.tif", "RGB.byte.tif", "swissimage_1091-322_00.tif"])
def test_real_geotiffs_are_read_with_their_place_and_scale(real_data, name):
    path = real_data / "geotiffs" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    with Raster(path) as raster:
        info = raster.info
        window = Window(info.width // 2 - 50, info.height // 2 - 50, 100, 100)
        assert raster.read(window).std() > 0
        assert raster.valid_share(window) > 0.5
    assert info.georeference is not None
    assert 0.01 < info.ground_sample_distance < 2000

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import CRS

from engine.errors import Cancelled, CheckpointRefused, UnreadableImage, UsageError
from engine.stages.detect import DetectConfig, detect

TRANSFORM = rasterio.Affine(0.5, 0, 2600000, 0, -0.5, 1200000)
CONFIG = DetectConfig(overlap=16, threads=1, device="cpu", score_threshold=0.6)
SQUARES = [[8, 8, 16, 16], [56, 40, 64, 48], [128, 112, 136, 120], [168, 120, 176, 128]]


def pixels(width=176, height=128):
    picture = np.full((height, width, 3), 20, dtype=np.uint8)
    for x1, y1, x2, y2 in SQUARES:
        picture[y1:y2, x1:x2, 0] = 250 - x1 // 2
    return picture


@pytest.fixture
def model(fake, tmp_path):
    return fake("bright_squares").write_export(tmp_path / "exported")


@pytest.fixture
def geotiff(tmp_path):
    path = tmp_path / "scene.tif"
    profile = {
        "driver": "GTiff",
        "width": 176,
        "height": 128,
        "count": 3,
        "dtype": "uint8",
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
    }
    with rasterio.open(path, "w", **profile, crs="EPSG:2056", transform=TRANSFORM, nodata=0) as target:
        target.write(pixels().transpose(2, 0, 1))
    return path


def test_objects_of_a_geotiff_come_out_once_in_its_pixels_and_with_its_georeference(model, geotiff):
    result = detect(model, geotiff, CONFIG)
    assert result.boxes_scene.xyxy.tolist() == SQUARES
    assert result.boxes_scene.labels.tolist() == [0] * 4
    assert (result.scene, result.width, result.height) == ("scene.tif", 176, 128)
    assert result.label_set.names == ("red", "green")
    assert CRS.from_wkt(result.georeference.crs_wkt).to_epsg() == 2056
    assert result.georeference.transform == tuple(TRANSFORM)[:6]


def test_a_plain_picture_has_no_georeference(model, tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "scene.png")
    result = detect(model, tmp_path / "scene.png", CONFIG)
    assert result.georeference is None
    assert result.boxes_scene.xyxy.tolist() == SQUARES


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_batch_size_makes_no_difference(model, geotiff, batch_size):
    one, other = (detect(model, geotiff, CONFIG.model_copy(update={"batch_size": size})).boxes_scene for size in (3, batch_size))
    assert np.array_equal(one.xyxy, other.xyxy)
    assert np.array_equal(one.scores, other.scores)


def test_windows_without_data_are_left_out(model, geotiff):
    with rasterio.open(geotiff, "r+") as target:
        target.write(np.zeros((3, 64, 176), dtype=np.uint8), window=rasterio.windows.Window(0, 64, 176, 64))
    told = []
    result = detect(model, geotiff, CONFIG.model_copy(update={"minimum_valid_share": 0.9}), progress=lambda *report: told.append(report))
    assert result.boxes_scene.xyxy.tolist() == SQUARES[:2]
    assert told[0] == (0, 12, "detecting scene.tif on CPUExecutionProvider")
    assert told[-1][:2] == (12, 12)


def test_a_scene_smaller_than_a_tile(model, tmp_path):
    Image.fromarray(pixels()[:20, :30]).save(tmp_path / "small.png")
    assert detect(model, tmp_path / "small.png", CONFIG).boxes_scene.xyxy.tolist() == SQUARES[:1]


def test_nothing_found_is_an_empty_result(model, tmp_path):
    Image.new("RGB", (80, 70)).save(tmp_path / "black.png")
    assert len(detect(model, tmp_path / "black.png", CONFIG).boxes_scene) == 0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_a_truncated_geotiff_is_refused_by_name(model, geotiff, share):
    content = geotiff.read_bytes()
    geotiff.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UnreadableImage, match=r"scene\.tif") as refused:
        detect(model, geotiff, CONFIG)
    assert refused.value.exit_code == 3


def test_a_missing_scene_is_refused_by_name(model, tmp_path):
    with pytest.raises(UnreadableImage, match=r"nowhere\.tif"):
        detect(model, tmp_path / "nowhere.tif", CONFIG)


@pytest.mark.parametrize("lost", ["model.onnx", "export.json"])
def test_a_damaged_model_is_refused(model, geotiff, lost):
    (model / lost).write_bytes(b"\0")
    with pytest.raises(CheckpointRefused, match=lost) as refused:
        detect(model, geotiff, CONFIG)
    assert refused.value.exit_code == 3


def test_an_overlap_as_large_as_the_tile_is_wrong_use(model, geotiff):
    with pytest.raises(UsageError, match="overlap"):
        detect(model, geotiff, CONFIG.model_copy(update={"overlap": 64}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("score_threshold", 0),
        ("overlap", -1),
        ("batch_size", 0),
        ("threads", 0),
        ("device", "tpu"),
        ("iou_threshold", 2),
        ("iou_treshold", 0.5),
    ],
)
def test_an_impossible_configuration_is_named(key, value):
    with pytest.raises(UsageError, match=key):
        DetectConfig.from_mapping({key: value})


def test_cancelling_stops_it(model, geotiff):
    def stop(done, total, message):
        if done:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        detect(model, geotiff, CONFIG, progress=stop)

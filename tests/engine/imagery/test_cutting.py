import numpy as np
import pytest
from PIL import Image

from engine.errors import Cancelled, UnreadableImage
from engine.imagery.cutting import cut_scene
from engine.imagery.duplicates import pixel_hash
from engine.imagery.tiling import windows


def test_a_scene_is_cut_into_its_windows_with_their_pixel_hashes(write_picture, tmp_path):
    path = write_picture(tmp_path / "a.png", width=100, height=70)
    cut = cut_scene(path, tile=40, overlap=8, minimum_valid_share=0.5)
    assert cut.windows == windows(100, 70, 40, 8)
    assert cut.left_out == 0
    pixels = np.asarray(Image.open(path))
    for window, digest in zip(cut.windows, cut.hashes, strict=True):
        x1, y1, x2, y2 = window.xyxy
        assert digest == pixel_hash(pixels[y1:y2, x1:x2])


@pytest.mark.parametrize(("share", "kept"), [(0.0, 4), (0.5, 2), (1.0, 2)])
def test_windows_without_data_are_left_out(tmp_path, share, kept):
    pixels = np.full((64, 64, 4), 200, dtype=np.uint8)
    pixels[:, 32:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    cut = cut_scene(tmp_path / "a.png", tile=32, overlap=0, minimum_valid_share=share)
    assert len(cut.windows) == kept
    assert cut.left_out == 4 - kept


@pytest.mark.guarantee("G9")
def test_damage_in_a_window_without_data_is_found_too(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 4), dtype=np.uint8)
    pixels[32:, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    raw = bytearray((tmp_path / "a.png").read_bytes())
    raw[-1500] ^= 0xFF
    (tmp_path / "a.png").write_bytes(raw)
    with pytest.raises(UnreadableImage):
        cut_scene(tmp_path / "a.png", tile=32, overlap=0, minimum_valid_share=0.5)


def test_a_tick_can_stop_it(write_picture, tmp_path):
    def stop():
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        cut_scene(write_picture(tmp_path / "a.png"), tile=32, overlap=0, minimum_valid_share=0.5, tick=stop)

import io
import json
import tarfile
import zipfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from engine.catalog.ledger import events
from engine.catalog.schema import Scene, SceneAlias, SetAside, Source, SplitRule, Tile
from engine.catalog.splits import SplitConfig
from engine.catalog.tiles import scene_file
from engine.catalog.workspace import Workspace
from engine.errors import ArchiveRefused, BadInput, Cancelled, UsageError
from engine.imagery import raster
from engine.stages.ingest import IngestConfig, ingest

SMALL = IngestConfig(tile=32, overlap=8)


@pytest.fixture
def workspace(tmp_path):
    with Workspace.create(tmp_path / "workspace") as made:
        yield made


@pytest.fixture
def pictures(write_picture, tmp_path):
    """A folder of three pictures, one a level deeper, beside a label file."""
    folder = tmp_path / "pictures"
    write_picture(folder / "a.png", width=96, height=64, seed=1)
    write_picture(folder / "deep/b.jpg", width=64, height=64, seed=2)
    write_picture(folder / "c.tif", width=80, height=48, seed=3)
    (folder / "labels.json").write_text("{}")
    return folder


def pack(folder: Path, target: Path) -> Path:
    if target.suffix == ".zip":
        with zipfile.ZipFile(target, "w") as archive:
            for path in sorted(folder.rglob("*.*")):
                archive.write(path, path.relative_to(folder))
    else:
        with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as archive:
            archive.add(folder, ".")
    return target


def snapshot(folder: Path, *, without: Path | None = None) -> dict[str, bytes | None]:
    """Every path below ``folder`` with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if without is None or not path.is_relative_to(without)
    }


def rows(workspace, table):
    with workspace.session(write=False) as session:
        return list(session.scalars(select(table).order_by(table.id)))


def catalog_is_empty(workspace) -> bool:
    unpacked = [*workspace.scenes.iterdir(), *workspace.temporary.iterdir()]
    return not unpacked and not any(rows(workspace, table) for table in (Source, Scene, SceneAlias, Tile, SetAside, SplitRule))


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_an_archive_becomes_scenes_and_tiles(workspace, pictures, tmp_path, name):
    report = ingest(workspace, pack(pictures, tmp_path / name), SMALL)
    assert (report.scenes_added, report.scenes_known, report.not_imagery, report.set_aside) == (3, 0, 1, [])
    scenes = rows(workspace, Scene)
    assert {scene.name for scene in scenes} == {"a.png", "c.tif", "deep/b.jpg"}
    assert len(rows(workspace, Tile)) == report.tiles_added == sum(report.tiles_by_split.values()) == 27
    for scene in scenes:
        path = scene_file(workspace, scene)
        assert path.parent == workspace.scenes.resolve()
        assert path.read_bytes() == (pictures / scene.name).read_bytes()
        assert path.stem == scene.content_hash
    assert len(list(workspace.scenes.iterdir())) == 3
    assert not list(workspace.temporary.iterdir())
    json.dumps(asdict(report))


def test_files_of_a_folder_stay_where_they_are(workspace, pictures):
    before = snapshot(pictures)
    assert ingest(workspace, pictures, SMALL).scenes_added == 3
    assert not list(workspace.scenes.iterdir())
    assert {scene_file(workspace, scene) for scene in rows(workspace, Scene)} == {
        pictures / "a.png",
        pictures / "c.tif",
        pictures / "deep/b.jpg",
    }
    assert snapshot(pictures) == before


def test_a_single_image_is_taken_in(workspace, pictures):
    report = ingest(workspace, pictures / "a.png", SMALL)
    assert (report.kind, report.scenes_added) == ("file", 1)
    assert scene_file(workspace, rows(workspace, Scene)[0]).parent == workspace.scenes.resolve()


def test_the_catalog_is_the_same_for_every_kind_of_source(pictures, tmp_path):
    found = []
    for name in ("p.zip", "p.tar", "p.tar.gz", ""):
        with Workspace.create(tmp_path / f"workspace{name}") as workspace:
            ingest(workspace, pack(pictures, tmp_path / name) if name else pictures, SMALL)
            scenes = {scene.id: scene.content_hash for scene in rows(workspace, Scene)}
            found.append({(scenes[tile.scene_id], tile.x, tile.y, tile.content_hash, tile.split) for tile in rows(workspace, Tile)})
    assert found[0] == found[1] == found[2] == found[3]


@pytest.mark.parametrize("name", ["p.zip", ""])
def test_the_same_source_again_adds_nothing(workspace, pictures, tmp_path, name):
    source = pack(pictures, tmp_path / name) if name else pictures
    first = ingest(workspace, source, SMALL)
    tiles = [(tile.id, tile.split) for tile in rows(workspace, Tile)]
    again = ingest(workspace, source, SMALL)
    assert (again.scenes_added, again.tiles_added, again.scenes_known) == (0, 0, 3)
    assert again.already_there == bool(name)
    assert again.tiles_by_split == first.tiles_by_split
    assert [(tile.id, tile.split) for tile in rows(workspace, Tile)] == tiles


def test_a_new_file_in_a_folder_joins_on_the_next_ingest(workspace, pictures, write_picture):
    ingest(workspace, pictures, SMALL)
    write_picture(pictures / "new.png", seed=9)
    report = ingest(workspace, pictures, SMALL)
    assert (report.scenes_added, report.scenes_known) == (1, 3)


@pytest.mark.guarantee("G14")
def test_a_file_that_changed_since_it_was_ingested_is_set_aside(workspace, pictures, write_picture):
    ingest(workspace, pictures, SMALL)
    write_picture(pictures / "a.png", width=96, height=64, seed=10)
    report = ingest(workspace, pictures, SMALL)
    assert [(entry.name, "changed" in entry.reason) for entry in report.set_aside] == [("a.png", True)]
    assert report.scenes_added == 0


@pytest.mark.guarantee("G14")
def test_a_file_that_changes_while_it_is_read_is_set_aside(workspace, pictures, write_picture):
    def swap(done, total, message):
        if message == "a.png" and done == 0:
            write_picture(pictures.parent / "other.png", width=96, height=64, seed=11).replace(pictures / "a.png")

    report = ingest(workspace, pictures, SMALL, progress=swap)
    assert [(entry.name, "changed" in entry.reason) for entry in report.set_aside] == [("a.png", True)]


@pytest.mark.guarantee("G42")
def test_the_same_file_under_another_name_joins_its_scene(workspace, pictures, tmp_path):
    (pictures / "z-copy.png").write_bytes((pictures / "a.png").read_bytes())
    report = ingest(workspace, pictures, SMALL)
    assert report.duplicates == [{"name": "z-copy.png", "same_as": "a.png"}]
    other = tmp_path / "other"
    other.mkdir()
    (other / "renamed.png").write_bytes((pictures / "a.png").read_bytes())
    assert ingest(workspace, other, SMALL).duplicates == [{"name": "renamed.png", "same_as": "a.png"}]
    assert len(rows(workspace, Scene)) == 3
    assert [alias.name for alias in rows(workspace, SceneAlias)] == ["z-copy.png", "renamed.png"]


@pytest.mark.guarantee("G42")
def test_what_was_set_aside_comes_in_when_the_caps_allow_it(workspace, pictures, tmp_path):
    archive = pack(pictures, tmp_path / "p.zip")
    first = ingest(workspace, archive, SMALL.model_copy(update={"max_pixels": 96 * 64 - 1}))
    assert (first.scenes_added, len(first.set_aside)) == (2, 1)
    again = ingest(workspace, archive, SMALL)
    assert (again.already_there, again.scenes_added, again.scenes_known, again.set_aside) == (False, 1, 2, [])
    assert ingest(workspace, archive, SMALL).already_there


def test_the_same_pixels_twice_in_an_archive_are_one_scene(workspace, pictures, tmp_path):
    (pictures / "again.png").write_bytes((pictures / "a.png").read_bytes())
    report = ingest(workspace, pack(pictures, tmp_path / "p.zip"), SMALL)
    assert report.scenes_added == 3
    assert report.duplicates == [{"name": "again.png", "same_as": "a.png"}]
    assert list(workspace.temporary.iterdir()) == []


def test_a_tile_that_repeats_the_pixels_of_another_has_no_split(workspace, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for name, colour in (("a", 100), ("b", 100), ("c", 101)):
        pixels = np.full((32, 32, 3), colour, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png", pnginfo=None, compress_level="abc".index(name))
    ingest(workspace, folder, SMALL)
    assert [tile.split == "none" for tile in rows(workspace, Tile)] == [False, True, False]


def test_tiles_without_data_are_left_out(workspace, tmp_path):
    pixels = np.full((32, 96, 4), 200, dtype=np.uint8)
    pixels[:, 40:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    report = ingest(workspace, tmp_path / "a.png", IngestConfig(tile=32, overlap=0))
    assert (report.tiles_added, report.tiles_left_out) == (1, 2)


def test_a_large_raster_without_tiles_is_rewritten_once(workspace, tmp_path, monkeypatch):
    monkeypatch.setattr(raster, "UNTILED_SIDE", 64)
    folder = tmp_path / "large"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(1, 255, (600, 1040, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "large.png")
    assert ingest(workspace, folder, IngestConfig()).scenes_added == 1
    (scene,) = rows(workspace, Scene)
    path = scene_file(workspace, scene)
    assert path == workspace.scenes.resolve() / f"{scene.content_hash}.tif"
    with raster.Raster(path) as opened:
        assert opened.info.tiled
        assert (opened.read(raster.Window(0, 0, 1040, 600)) == pixels).all()


@pytest.mark.guarantee("G9")
def test_bad_files_are_set_aside_by_name_and_reason_and_the_rest_goes_on(workspace, pictures, tmp_path):
    (pictures / "cut.png").write_bytes((pictures / "a.png").read_bytes()[:500])
    (pictures / "cut.tif").write_bytes((pictures / "c.tif").read_bytes()[:5000])
    (pictures / "fake.tif").write_bytes(b"<VRTDataset/>")
    (pictures / "empty.jpg").write_bytes(b"")
    (pictures / "inner.zip").write_bytes(b"PK\x03\x04")
    report = ingest(workspace, pack(pictures, tmp_path / "p.zip"), SMALL)
    assert report.scenes_added == 3
    assert {entry.name: entry.reason.split()[0] for entry in report.set_aside} == {
        "cut.png": "is",
        "cut.tif": "cannot",
        "fake.tif": "named",
        "empty.jpg": "an",
        "inner.zip": "an",
    }
    assert [row.name for row in rows(workspace, SetAside)] == sorted(entry.name for entry in report.set_aside)


@pytest.mark.guarantee("G9")
def test_a_source_with_too_many_bad_files_is_refused_and_leaves_nothing(workspace, pictures, tmp_path):
    (pictures / "cut.png").write_bytes((pictures / "a.png").read_bytes()[:500])
    source = pack(pictures, tmp_path / "p.zip")
    with pytest.raises(ArchiveRefused, match="1 of 4 images"):
        ingest(workspace, source, IngestConfig(tile=32, overlap=8, maximum_set_aside_share=0.2))
    assert catalog_is_empty(workspace)
    assert ingest(workspace, source, IngestConfig(tile=32, overlap=8, maximum_set_aside_share=0.25)).scenes_added == 3


def test_a_refused_second_look_at_a_folder_keeps_what_the_first_took_in(workspace, pictures, write_picture):
    ingest(workspace, pictures, SMALL)
    before = [(tile.id, tile.split) for tile in rows(workspace, Tile)]
    write_picture(pictures / "0-new.png", seed=9)
    (pictures / "cut.png").write_bytes((pictures / "a.png").read_bytes()[:500])
    with pytest.raises(ArchiveRefused):
        ingest(workspace, pictures, IngestConfig(tile=32, overlap=8, maximum_set_aside_share=0.1))
    assert [(tile.id, tile.split) for tile in rows(workspace, Tile)] == before


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", ""])
@pytest.mark.parametrize(
    "files", [{}, {"notes.txt": b"hello"}, {"a.png": b"no png"}, {"a.png": b"\x89PNG\r\n\x1a\n but broken"}, {"../a.png": b""}]
)
def test_a_source_without_a_usable_image_is_refused_and_leaves_nothing(workspace, fake, tmp_path, name, files):
    source = tmp_path / (name or "folder")
    if name:
        fake("archives").write_archive(source, name.removeprefix("p."), list(files.items()))
    else:
        source.mkdir()
        for file, content in files.items():
            (source / Path(file).name).write_bytes(content)
    with pytest.raises(ArchiveRefused, match=r"no image|neither an archive nor an image"):
        ingest(workspace, source, SMALL)
    assert catalog_is_empty(workspace)


@pytest.mark.parametrize(("name", "content"), [("p.zip", b"no archive at all"), ("p.tif", b"II*\x00"[:2]), ("p", b"")])
def test_a_file_that_is_neither_archive_nor_image_is_said_to_be_that(workspace, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArchiveRefused, match=f"'{name}' is neither an archive nor an image"):
        ingest(workspace, tmp_path / name, SMALL)
    assert catalog_is_empty(workspace)


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz"])
def test_a_cut_off_archive_is_refused_before_anything_is_written(workspace, pictures, tmp_path, name):
    whole = pack(pictures, tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ArchiveRefused, match="cut off"):
        ingest(workspace, tmp_path / name, SMALL)
    assert catalog_is_empty(workspace)


@pytest.mark.guarantee("G11")
def test_an_archive_over_a_cap_is_refused_and_leaves_nothing(workspace, pictures, tmp_path):
    for name in ("p.zip", "p.tar"):
        with pytest.raises(ArchiveRefused, match="bytes"):
            ingest(workspace, pack(pictures, tmp_path / name), IngestConfig(tile=32, overlap=8, max_total_bytes=15_000))
        assert catalog_is_empty(workspace)


@pytest.mark.guarantee("G12", "G13")
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_no_member_leaves_the_workspace_or_gives_a_file_its_name(workspace, pictures, fake, tmp_path, kind):
    archives = fake("archives")
    good = (pictures / "a.png").read_bytes()
    bad = (pictures / "c.tif").read_bytes()
    source = tmp_path / f"hostile.{kind}"
    archives.write_archive(source, kind, [("good.png", good), *((name, bad) for name in archives.HOSTILE_NAMES)])
    before = snapshot(tmp_path, without=workspace.root)
    report = ingest(workspace, source, SMALL)
    assert snapshot(tmp_path, without=workspace.root) == before
    assert report.scenes_added == 1
    folders = sum(name.endswith("/") for name in archives.HOSTILE_NAMES)
    assert len(report.set_aside) + folders >= len(archives.HOSTILE_NAMES)
    assert all(len(path.stem) == 64 for path in workspace.scenes.iterdir())


@pytest.mark.guarantee("G13")
def test_links_in_a_tar_are_set_aside_by_name(workspace, pictures, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(pictures / "a.png", "a.png")
        for name, kind, link in (("l.png", tarfile.SYMTYPE, "/etc/passwd"), ("h.png", tarfile.LNKTYPE, "a.png")):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            archive.addfile(entry)
    report = ingest(workspace, tmp_path / "a.tar", SMALL)
    assert [(entry.name, entry.reason) for entry in report.set_aside] == [("h.png", "a hard link"), ("l.png", "a symbolic link")]


def test_a_cancelled_ingest_goes_on_where_it_was(workspace, pictures, tmp_path):
    source = pack(pictures, tmp_path / "p.tar")

    def stop_after_one(done, total, message):
        if done == 1 and total:
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        ingest(workspace, source, SMALL, progress=stop_after_one)
    assert len(rows(workspace, Scene)) == 1
    report = ingest(workspace, source, SMALL)
    assert (report.scenes_added, report.scenes_known) == (2, 1)
    assert rows(workspace, Source)[0].state == "done"


def test_an_unpacked_file_that_no_scene_refers_to_is_swept_away(workspace, pictures):
    orphan, other = workspace.scenes / f"{'0' * 64}.png", workspace.scenes / "notes.txt"
    orphan.write_bytes(b"from a crash")
    other.write_bytes(b"not ours to remove")
    ingest(workspace, pictures / "a.png", SMALL)
    assert not orphan.exists()
    assert other.exists()


def test_progress_is_told_of_every_image(workspace, pictures):
    told = []
    ingest(workspace, pictures, SMALL, progress=lambda done, total, message: told.append((done, total, message)))
    assert [entry for entry in told if entry[1]][-1][:2] == (3, 3)
    assert {"a.png", "deep/b.jpg", "c.tif"} <= {message for _, _, message in told}


def test_a_source_ingested_with_another_tiling_is_refused(workspace, pictures):
    ingest(workspace, pictures, SMALL)
    with pytest.raises(BadInput, match="tile = 64"):
        ingest(workspace, pictures, IngestConfig(tile=64, overlap=8))


def test_the_split_that_the_first_ingest_asked_for_holds(workspace, pictures):
    ingest(workspace, pictures, IngestConfig(tile=32, overlap=8, split=SplitConfig(mode="scene", test_share=0.9, dev_share=0.0)))
    assert rows(workspace, SplitRule)[0].config["test_share"] == 0.9
    assert rows(workspace, Tile)[0].split == "test"


@pytest.mark.parametrize("values", [{"overlap": 320}, {"tile": 0}, {"tiles": 320}, {"minimum_valid_share": 1.5}])
def test_an_impossible_config_is_refused(values):
    with pytest.raises(UsageError):
        IngestConfig.from_mapping(values)


def test_what_came_in_through_the_pages_is_a_source(workspace, pictures):
    uploaded = workspace.uploads / "1" / "a.png"
    uploaded.parent.mkdir(parents=True)
    uploaded.write_bytes((pictures / "a.png").read_bytes())
    assert ingest(workspace, uploaded, SMALL).scenes_added == 1


def test_the_workspace_is_no_source_and_is_not_entered(workspace, pictures, tmp_path):
    ingest(workspace, pictures / "a.png", SMALL)
    with pytest.raises(BadInput, match="inside the workspace"):
        ingest(workspace, workspace.scenes, SMALL)
    report = ingest(workspace, tmp_path, SMALL)
    assert {scene.name for scene in rows(workspace, Scene)} == {"a.png", "pictures/c.tif", "pictures/deep/b.jpg"}
    assert report.duplicates == [{"name": "pictures/a.png", "same_as": "a.png"}]


def test_a_finished_ingest_stands_in_the_ledger(workspace, pictures):
    ingest(workspace, pictures, SMALL)
    with workspace.session(write=False) as session:
        (event,) = events(session, "ingest")
    assert event.details["scenes_added"] == 3


def test_georeference_and_scale_are_kept(workspace, tmp_path):
    import rasterio

    pixels = np.random.default_rng(0).integers(1, 255, (3, 64, 64), dtype=np.uint8)
    transform = rasterio.Affine(0.1, 0, 404211.9, 0, -0.1, 3285142.9)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", crs="EPSG:32617", transform=transform
    ) as dataset:
        dataset.write(pixels)
    ingest(workspace, tmp_path / "a.tif", SMALL)
    (scene,) = rows(workspace, Scene)
    assert scene.transform == pytest.approx(list(transform)[:6])
    assert rasterio.crs.CRS.from_wkt(scene.crs_wkt).to_epsg() == 32617
    assert scene.ground_sample_distance == pytest.approx(0.1, rel=1e-3)


@pytest.mark.guarantee("G9")
def test_a_member_with_a_wrong_checksum_is_set_aside(workspace, pictures, tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "PNG")
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad.png", buffer.getvalue())
        archive.write(pictures / "a.png", "good.png")
    raw = bytearray(path.read_bytes())
    raw[3000] ^= 0xFF
    path.write_bytes(raw)
    report = ingest(workspace, path, SMALL)
    assert report.scenes_added == 1
    assert [entry.name for entry in report.set_aside] == ["bad.png"]


@pytest.mark.parametrize("ground", ["train", "dev", "test"])
def test_a_source_with_a_split_of_its_own_gives_it_to_all_its_tiles(tmp_path, pictures, ground):
    with Workspace.create(tmp_path / "workspace") as workspace:
        report = ingest(workspace, pictures, IngestConfig(tile=32, overlap=0, ground=ground))
        assert {tile.split for tile in rows(workspace, Tile)} == {ground}
        assert report.tiles_by_split[ground] == report.tiles_added
        with pytest.raises(BadInput, match="ground"):
            ingest(workspace, pictures, IngestConfig(tile=32, overlap=0, ground="dev" if ground == "test" else "test"))

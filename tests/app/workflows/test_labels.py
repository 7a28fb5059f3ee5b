"""Labels in and out of a workspace, in every format, and back again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.wiring import LABEL_WRITERS
from app.workflows.labels import LabelExportConfig, LabelImportConfig, export_labels, import_label_file
from connectors.formats.contract import MARK
from engine.boxes import Boxes
from engine.catalog.annotations import scene_boxes
from engine.catalog.schema import Annotation, Review, Scene
from engine.catalog.workspace import Workspace
from engine.errors import BadInput, NothingToDo, UsageError
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels

UTM = (0.5, 0.0, 400_000.0, 0.0, -0.5, 3_300_000.0)
CLASSES = LabelSet(("ship", "Gebäude"))


def workspace_of(folder, fake):
    """Three scenes of 128 × 64: two on overlapping ground, one plain picture."""
    made = Workspace.create(folder)
    with made.session() as session:
        for name, transform in (("in/a.tif", UTM), ("in/b.tif", (0.5, 0.0, 400_032.0, *UTM[3:])), ("in/c.png", None)):
            scene, _ = fake("catalog").add_scene(session, name, width=128, height=64, tile=64, transform=transform)
            scene.crs_wkt = fake("scenes").wkt(scene.crs_wkt) if transform else None
    return made


def boxes_of(workspace):
    """By scene the accepted boxes, class first, sorted."""
    with workspace.session(write=False) as session:
        found = {}
        for scene in session.query(Scene).order_by(Scene.id):
            boxes = scene_boxes(session, scene.id)
            found[scene.name] = sorted(zip(boxes.labels.tolist(), boxes.xyxy.tolist(), strict=True))
        return found


def same(one, other, tolerance):
    assert one.keys() == other.keys()
    for scene in one:
        assert [label for label, _ in one[scene]] == [label for label, _ in other[scene]]
        for (_, before), (_, after) in zip(one[scene], other[scene], strict=True):
            np.testing.assert_allclose(before, after, atol=tolerance)


@st.composite
def labels(draw):
    """Boxes at least a pixel apart in the first coordinate, so that sorting pairs them up."""
    images = []
    for name in ("in/a.tif", "in/b.tif", "in/c.png"):
        lefts = draw(st.lists(st.integers(0, 100), max_size=4, unique=True))
        boxes = []
        for left in lefts:
            x1, y1 = left + draw(st.floats(0, 0.5)), draw(st.floats(0, 50))
            boxes.append((x1, y1, x1 + draw(st.floats(1, 20)), y1 + draw(st.floats(1, 13))))
        images.append(ImageLabels(name, 128, 64, Boxes(boxes, [draw(st.integers(0, 1)) for _ in boxes])))
    return LabelFile(CLASSES, tuple(images), source="first.json")


@pytest.mark.parametrize(("written_as", "tolerance"), [("coco", 1e-9), ("voc", 0), ("yolo", 1e-6), ("gpkg", 1e-5)])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=labels())
def test_what_is_imported_exported_and_imported_elsewhere_is_the_same(first, written_as, tolerance, fake, tmp_path_factory):
    if not any(len(image.boxes_scene) for image in first.images):
        return
    folder = tmp_path_factory.mktemp("trip")
    target = folder / f"labels{LABEL_WRITERS[written_as]}"
    with workspace_of(folder / "one", fake) as one, workspace_of(folder / "two", fake) as two:
        import_labels(one, first, LabelConfig())
        report = export_labels(one, written_as, target, LabelExportConfig())
        assert (report.boxes, report.classes) == (sum(len(image.boxes_scene) for image in first.images), CLASSES.names)
        back = import_label_file(two, target, LabelImportConfig(label_set=CLASSES.names))
        assert (back.added, back.left_out) == (report.boxes, 0)
        same(boxes_of(one), boxes_of(two), tolerance)
        again = import_label_file(one, target, LabelImportConfig())
        assert (again.added, again.changed, again.removed) == (0, 0, 0), "the workspace knows its own boxes"


def twins_in(folder, fake, order):
    """Scenes of one name on the same ground, ingested in an order of their contents."""
    made = Workspace.create(folder)
    with made.session() as session:
        for content in order:
            scene, _ = fake("catalog").add_scene(session, "in/a.tif", width=128, height=64, tile=64, transform=UTM, content=content)
            scene.crs_wkt = fake("scenes").wkt("EPSG:32617")
    return made


@pytest.mark.parametrize("written_as", LABEL_WRITERS)
def test_scenes_of_one_name_get_their_own_boxes_back_in_any_workspace(written_as, tmp_path, fake):
    own = {"2019": [5.0, 5, 20, 20], "2021": [30.0, 30, 50, 60]}
    target = tmp_path / f"labels{LABEL_WRITERS[written_as]}"
    with twins_in(tmp_path / "one", fake, own) as one:
        images = [ImageLabels("in/a.tif", 128, 64, Boxes([box], [0]), scene_id=row) for row, box in enumerate(own.values(), start=1)]
        import_labels(one, LabelFile(CLASSES, tuple(images), source="x"), LabelConfig())
        assert export_labels(one, written_as, target, LabelExportConfig()).images == 2
        again = import_label_file(one, target, LabelImportConfig())
        assert (again.added, again.unchanged, again.removed) == (0, 2, 0)
    with twins_in(tmp_path / "two", fake, reversed(own)) as two:
        import_label_file(two, target, LabelImportConfig(label_set=CLASSES.names))
        with two.session(write=False) as session:
            for row, box in enumerate(reversed(own.values()), start=1):
                np.testing.assert_allclose(scene_boxes(session, row).xyxy, [box], atol=1e-5)


@pytest.fixture
def workspace(tmp_path, fake):
    with workspace_of(tmp_path / "workspace", fake) as made:
        boxes = Boxes([[5, 5, 20, 20], [70, 5, 90, 20]], [0, 1])
        import_labels(made, LabelFile(CLASSES, (ImageLabels("in/a.tif", 128, 64, boxes),), source="x"), LabelConfig())
        yield made


def test_the_report_says_what_was_written(workspace, tmp_path):
    report = export_labels(workspace, "coco", tmp_path / "labels.json", LabelExportConfig())
    assert (report.format, report.images, report.boxes, report.partly_reviewed) == ("coco", 1, 2, 0)
    document = json.loads((tmp_path / "labels.json").read_text())
    assert [row["id"] for row in document["annotations"]] == [1, 2]


@pytest.mark.parametrize(
    ("written_as", "config", "found"),
    [("csv", {}, "'csv'"), ("gpkg", {"per": "tile"}, "of tiles"), ("gpkg", {"images": "copy"}, "with pictures")],
)
def test_what_a_format_cannot_hold_is_wrong_use(workspace, tmp_path, written_as, config, found):
    with pytest.raises(UsageError, match=found):
        export_labels(workspace, written_as, tmp_path / "x.gpkg", LabelExportConfig(**config))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["workspace"]


def layer_file(path, layer, *boxes, append=False, **columns):
    """Polygons over scene ``in/a.tif`` in its pixels, with columns of text."""
    ground = np.array([[400_000 + x1 / 2, 3_300_000 - y2 / 2, 400_000 + x2 / 2, 3_300_000 - y1 / 2] for x1, y1, x2, y2 in boxes])
    path.parent.mkdir(parents=True, exist_ok=True)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(shapely.box(*ground.T)),
        [np.array(values, dtype=object) for values in columns.values()],
        list(columns),
        layer=layer,
        append=append,
        driver="GPKG",
        geometry_type="Polygon",
        crs="EPSG:32617",
    )
    return path


CAR, TREE = (5, 5, 15, 15), (30, 30, 40, 40)


@pytest.fixture
def empty(tmp_path, fake):
    with workspace_of(tmp_path / "empty", fake) as made:
        made_classes = LabelFile(LabelSet(("car", "tree")), (ImageLabels("in/c.png", 128, 64, Boxes.empty()),), source="x")
        import_labels(made, made_classes, LabelConfig(complete=False))
        yield made


@pytest.mark.parametrize("complete", [True, False])
def test_two_layers_of_a_file_are_two_sources(empty, tmp_path, complete):
    city = layer_file(tmp_path / "city.gpkg", "cars", CAR, CAR, **{"class": ["car", "car"]})
    layer_file(city, "trees", TREE, append=True, **{"class": ["tree"]})
    for layer in ("cars", "trees", "cars"):
        report = import_label_file(empty, city, LabelImportConfig(layer=layer, complete=complete))
        assert (report.removed, report.source) == (0, f"city.gpkg:{layer}")
    assert [label for label, _ in boxes_of(empty)["in/a.tif"]] == [0, 1]


def test_two_files_of_one_name_are_two_sources_and_each_has_its_versions(empty, tmp_path):
    for kind, box in (("car", CAR), ("tree", TREE), ("car", (5, 45, 15, 55))):
        layer_file(tmp_path / kind / "labels.gpkg", "labels", box, **{"class": [kind]})
        report = import_label_file(empty, tmp_path / kind / "labels.gpkg", LabelImportConfig())
    assert (report.added, report.removed, report.source) == (1, 1, "labels.gpkg"), "the new version replaces the old one"
    assert [label for label, _ in boxes_of(empty)["in/a.tif"]] == [0, 1]


def test_another_column_of_a_layer_removes_nothing_of_the_first(empty, tmp_path):
    file = layer_file(tmp_path / "city.gpkg", "things", CAR, TREE, vehicle=["car", None], plant=[None, "tree"])
    for column in ("vehicle", "plant"):
        assert import_label_file(empty, file, LabelImportConfig(class_column=column)).removed == 0
    assert [label for label, _ in boxes_of(empty)["in/a.tif"]] == [0, 1]


def test_an_upload_that_keeps_a_box_is_a_new_version(empty):
    for number, boxes in enumerate(((CAR, TREE), (CAR,))):
        file = layer_file(empty.uploads / str(number) / "labels.gpkg", "labels", *boxes, **{"class": ["car"] * len(boxes)})
        report = import_label_file(empty, file, LabelImportConfig())
    assert (report.removed, report.source) == (1, "labels.gpkg")


def test_nothing_is_replaced_but_on_request_and_then_only_what_an_export_wrote(workspace, tmp_path):
    file, folder, theirs = tmp_path / "labels.json", tmp_path / "set", tmp_path / "photographs"
    file.write_text("mine")
    theirs.mkdir()
    (theirs / "a.txt").write_text("mine")
    (tmp_path / "link").symlink_to(theirs)
    for written_as, target in (("coco", file), ("yolo", theirs), ("voc", tmp_path / "link"), ("yolo", file), ("coco", theirs)):
        with pytest.raises(BadInput, match="is there already"):
            export_labels(workspace, written_as, target, LabelExportConfig())
    for written_as, target in (("yolo", theirs), ("voc", tmp_path / "link"), ("yolo", file), ("coco", theirs)):
        with pytest.raises(BadInput, match="is not replaced"):
            export_labels(workspace, written_as, target, LabelExportConfig(overwrite=True))
    assert (file.read_text(), (theirs / "a.txt").read_text()) == ("mine", "mine")
    export_labels(workspace, "coco", file, LabelExportConfig(overwrite=True))
    assert file.read_text().startswith("{")
    folder.mkdir()
    export_labels(workspace, "yolo", folder, LabelExportConfig())
    export_labels(workspace, "voc", folder, LabelExportConfig(overwrite=True))
    assert {path.name for path in folder.iterdir()} == {"Annotations", "ImageSets", MARK}


def test_what_a_killed_export_left_is_cleared_up_and_what_it_replaced_is_put_back(workspace, tmp_path):
    out, token = tmp_path / "out", "0123456789ab"
    export_labels(workspace, "yolo", out / "set", LabelExportConfig())
    (out / "set").rename(out / f".tmp-was-{token}-set")
    (out / f".tmp-{token}-set" / "labels").mkdir(parents=True)
    for name in ("x.gpkg", "x.gpkg-journal", "other.gpkg"):
        (out / f".tmp-{token}-{name}").write_text("")
    with pytest.raises(BadInput, match="is there already"):
        export_labels(workspace, "yolo", out / "set", LabelExportConfig())
    export_labels(workspace, "gpkg", out / "x.gpkg", LabelExportConfig())
    assert sorted(path.name for path in out.iterdir()) == [f".tmp-{token}-other.gpkg", "set", "x.gpkg"]
    assert (out / "set" / MARK).is_file()


def test_a_target_that_cannot_be_written_is_told_of(workspace, tmp_path):
    (tmp_path / "file").write_text("")
    for written_as, name in (("coco", "x.json"), ("yolo", "set"), ("gpkg", "x.gpkg")):
        with pytest.raises(BadInput, match="cannot be written"):
            export_labels(workspace, written_as, tmp_path / "file" / name, LabelExportConfig())


def test_nothing_annotated_is_nothing_to_do_and_leaves_nothing(tmp_path, fake):
    with workspace_of(tmp_path / "workspace", fake) as workspace:
        import_labels(
            workspace, LabelFile(CLASSES, (ImageLabels("in/a.tif", 128, 64, Boxes.empty()),), source="x"), LabelConfig(complete=False)
        )
        with pytest.raises(NothingToDo):
            export_labels(workspace, "coco", tmp_path / "labels.json", LabelExportConfig())
    assert not (tmp_path / "labels.json").exists()


@pytest.mark.parametrize("written_as", ["coco", "yolo", "voc"])
def test_tiles_with_their_pictures_fill_another_workspace_with_the_same_boxes(written_as, tmp_path, write_picture):
    for seed, name in enumerate(("a.png", "b.png")):
        write_picture(tmp_path / "imagery" / name, width=64, height=32, seed=seed)
    boxes = Boxes([[2, 2, 12, 12], [25, 5, 39, 20], [50, 10, 62, 30]], [0, 1, 0])
    given_labels = LabelFile(CLASSES, tuple(ImageLabels(name, 64, 32, boxes) for name in ("a.png", "b.png")), source="x")
    with Workspace.create(tmp_path / "one") as one:
        ingest(one, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        import_labels(one, given_labels, LabelConfig())
        report = export_labels(one, written_as, tmp_path / "set", LabelExportConfig(per="tile", images="copy"))
    pictures = {"coco": "images", "yolo": "images", "voc": "JPEGImages"}[written_as]
    with Workspace.create(tmp_path / "two") as two:
        ingest(two, tmp_path / "set" / pictures, IngestConfig(tile=32, overlap=0))
        back = import_label_file(two, tmp_path / "set", LabelImportConfig(label_set=CLASSES.names))
        assert (back.images, back.added, back.left_out) == (report.images, report.boxes, 0)
        found = boxes_of(two)
    for name, first, second in (("a", [2.0, 2, 12, 12], [25.0, 5, 32, 20]), ("b", [2.0, 2, 12, 12], [25.0, 5, 32, 20])):
        (of_tile,) = [rows for scene, rows in found.items() if scene.endswith(f"{name}_0_0_32_32.png")]
        np.testing.assert_allclose([row for _, row in of_tile], [first, second], atol=1e-6)


def test_a_linked_picture_with_a_turn_noted_is_warned_of(tmp_path, write_picture):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / "imagery" / name, width=64, height=32)
    pixels = np.asarray(Image.open(tmp_path / "imagery" / "b.png"))
    Image.fromarray(255 - pixels).save(tmp_path / "imagery" / "a.png", exif=exif)
    with Workspace.create(tmp_path / "workspace") as made:
        ingest(made, tmp_path / "imagery", IngestConfig(tile=32, overlap=0))
        images = tuple(ImageLabels(name, 64, 32, Boxes([[2, 2, 12, 12]], [0])) for name in ("a.png", "b.png"))
        import_labels(made, LabelFile(CLASSES, images, source="x"), LabelConfig())
        (warning,) = export_labels(made, "yolo", tmp_path / "linked", LabelExportConfig(images="link")).warnings
        assert "a.png" in warning
        assert "b.png" not in warning
        assert "--images copy" in warning
        assert export_labels(made, "yolo", tmp_path / "copied", LabelExportConfig(images="copy")).warnings == ()


BAD = {
    "a label file with a line that is none": {"data.yaml": "names: [ship]", "labels/a.txt": "0 0.1 0.1 0.1 0.1\n", "labels/b.txt": "ship"},
    "a class that the workspace does not have": {"data.yaml": "names: [shop]", "labels/a.txt": "0 0.1 0.1 0.1 0.1\n"},
    "an image that is not there": {"data.yaml": "names: [ship]", "labels/a.txt": "0 0.1 0.1 0.1 0.1\n", "labels/z.txt": ""},
    "boxes that are none": {"data.yaml": "names: [ship]", "labels/a.txt": "0 10 10 5 5\n"},
    "no format": {"notes.csv": "a,b"},
    "an entity": {"a.xml": '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>'},
    "corners that are no numbers": {"a.txt": "1 2 3 4 5 6 7 x ship 0"},
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_changes_nothing_and_leaves_nothing(workspace, tmp_path, case):
    for place, text in BAD[case].items():
        path = tmp_path / "bad" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def everything():
        with workspace.session(write=False) as session:
            rows = [(row.id, row.x1, row.state, row.version) for row in session.query(Annotation)]
            return rows, session.query(Review).count(), sorted(workspace.root.rglob("*"))

    before = everything()
    with pytest.raises(BadInput):
        import_label_file(workspace, tmp_path / "bad", LabelImportConfig())
    assert everything() == before


@pytest.mark.parametrize("sample", ["isaid_sample", "dota_sample"])
def test_real_samples_come_back_from_every_format(real_data, sample, tmp_path):
    folder = real_data / sample
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with Workspace.create(tmp_path / "workspace") as workspace:
        ingest(workspace, folder / "images", IngestConfig(tile=512, overlap=0))
        first = import_label_file(workspace, folder / "annotations.json", LabelImportConfig())
        assert (first.added, first.left_out) == ({"isaid_sample": 306, "dota_sample": 600}[sample], 0)
        if sample == "dota_sample":
            for name, count in (("P0706.txt", 536), ("P1888.txt", 64)):
                texts = import_label_file(workspace, folder / name, LabelImportConfig())
                assert (texts.added, texts.unchanged) == (0, count), "the hull of the corners is the box of the json"
        for written_as, suffix in LABEL_WRITERS.items():
            target = tmp_path / f"{written_as}-labels{suffix}"
            report = export_labels(workspace, written_as, target, LabelExportConfig())
            back = import_label_file(workspace, target, LabelImportConfig())
            assert (back.added, back.unchanged, back.left_out) == (0, report.boxes, 0)


def test_the_real_benchmark_comes_back_from_every_format(real_data, tmp_path, fake):
    document = Path(real_data / "nwpu_vhr10" / "val.json")
    if not document.is_file():
        pytest.skip(f"{document} is not there")
    with Workspace.create(tmp_path / "workspace") as workspace:
        with workspace.session() as session:
            for row in json.loads(document.read_text())["images"]:
                fake("catalog").add_scene(session, row["file_name"], width=row["width"], height=row["height"], tile=512)
        first = import_label_file(workspace, document, LabelImportConfig())
        for written_as, suffix in LABEL_WRITERS.items():
            export_labels(workspace, written_as, tmp_path / f"labels{suffix}", LabelExportConfig(overwrite=True))
            back = import_label_file(workspace, tmp_path / f"labels{suffix}", LabelImportConfig())
            assert (back.added, back.unchanged) == (0, first.added)

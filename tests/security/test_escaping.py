"""What comes from files, people and servers is words on every page, whatever it is called."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from gradio.helpers import special_args
from PIL import Image
from sqlalchemy import select
from starlette.routing import Mount

from app.jobs import Job
from engine.boxes import Boxes
from engine.catalog.models import add_model
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.schema import RemoteProject, Scene
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.label_set import LabelSet
from engine.records import ImageLabels, LabelFile
from engine.stages.ingest import IngestConfig, ingest
from engine.stages.labels import LabelConfig, import_labels

pytestmark = [
    pytest.mark.guarantee("G34"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # gradio's imports and starlette's test client, none of them ours
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

IMAGE = "<img src=x onerror=alert(1)>"
VECTOR = '"><svg/onload=alert(1)>'
PAYLOADS = (IMAGE, VECTOR)
MARKUP = ("<img src=x", "<svg", "onerror=alert(1)>", "<script>alert")
VISITOR = gr.Request(username="local", query_params={})
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Whatever has a name is called by a payload: files, folders, classes, pictures from within, projects, reasons, models."""
    folder = tmp_path_factory.mktemp("imagery") / IMAGE
    folder.mkdir()
    names = [f"{IMAGE}.png", f"{VECTOR.replace('/', ' ')}.jpg"]
    for seed, name in enumerate(names):
        pixels = np.random.default_rng(seed).integers(0, 255, (96, 96, 3), dtype=np.uint8)
        exif = Image.Exif()
        exif[270] = exif[315] = exif[306] = IMAGE
        Image.fromarray(pixels).save(folder / name, exif=exif)
    (folder / f"{IMAGE} broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    boxes = Boxes(np.array([[2, 2, 20, 20], [40, 44, 60, 60]]), np.array([0, 1]))
    labels = LabelFile(LabelSet.of([IMAGE, VECTOR]), tuple(ImageLabels(name, 96, 96, boxes) for name in names))
    with Workspace.create(tmp_path_factory.mktemp("hostile") / "workspace") as workspace:
        ingest(workspace, folder, IngestConfig(tile=32, overlap=0))
        import_labels(workspace, labels, LabelConfig())
        with workspace.session() as session:
            chosen = [ChosenTile(tile.id, 1.0, 30.0, {"why": IMAGE, "kind": VECTOR}) for tile in tiles(session, split="train")[:3]]
            add_round(session, budget_seconds=60.0, strategy=VECTOR, seed=0, chosen=chosen)
            add_model(session, name=IMAGE, stage="finetune", config={IMAGE: IMAGE}, data_hash="0" * 64, metrics={"test": {"ap": 0.1}})
            session.add(
                RemoteProject(server="http://127.0.0.1:1", remote_id=VECTOR, title=IMAGE, label_config=IMAGE, label_set_fingerprint="0")
            )
        yield workspace


class HostileJobs:
    """Jobs of every state that say payloads."""

    def list(self, *, limit=50):
        return [
            Job(
                id=f"{number}" * 12,
                verb=verb,
                config={},
                inputs={},
                state=state,
                done=1,
                total=2,
                message=IMAGE,
                created=1.0,
                started=1.0,
                ended=2.0,
                report={IMAGE: VECTOR},
                error={"found": IMAGE, "expected": VECTOR, "remedy": IMAGE},
            )
            for number, verb in enumerate(("ingest", "round", "search", "export", "push", "evaluate", "pretrain"))
            for state in ("running", "failed", "interrupted", "done")
        ]

    def worker(self):
        return None

    def close(self):
        """Nothing is open."""


@pytest.fixture(scope="module")
def application(hostile, fake):
    return fake("web").application(hostile, HostileJobs(), None)


@pytest.fixture(scope="module")
def blocks(application):
    return next(route.app.get_blocks() for route in application.routes if isinstance(route, Mount) and hasattr(route.app, "get_blocks"))


def markup_in(words):
    return [each for each in MARKUP if each in words]


def test_no_page_is_delivered_with_markup_of_others(application, blocks, fake):
    client = fake("web").client(application)
    for path, _, _ in blocks.pages:
        page = client.get(f"/{path}", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert markup_in(page.text) == [], path
    assert markup_in(client.get("/config").text) == []


def shown_as_html(component):
    return isinstance(component, (gr.HTML, gr.Markdown))


def first_answers(blocks):
    """(page, what it fills, HTML) of every event that comes by itself when a page opens or as it is looked at."""
    for event in blocks.fns.values():
        by_itself = any(kind in {"load", "tick"} for _, kind in event.targets)
        if event.fn is None or not by_itself:
            continue
        values, *_ = special_args(event.fn, [getattr(component, "value", None) for component in event.inputs], VISITOR)
        answered = event.fn(*values)
        answers = answered if isinstance(answered, tuple) else (answered,)
        for component, answer in zip(event.outputs, answers, strict=True):
            content = answer.get("value") if isinstance(answer, dict) else answer
            if shown_as_html(component) and isinstance(content, str):
                yield event.page, component.elem_id, content


def test_what_pages_show_of_it_is_escaped(blocks):
    seen = set()
    for page, place, content in first_answers(blocks):
        assert markup_in(content) == [], (page, place)
        if "onerror=alert(1)" in content:
            assert "&lt;img src=x onerror=alert(1)&gt;" in content
            seen.add(page)
    assert {"", "imagery", "rounds"} <= seen, "the payloads are on the pages: as words"


def test_labels_of_choices_are_never_html(blocks):
    """Dropdowns, tables and the like take words; what takes HTML is made by app/pages/text.py alone."""
    for component in blocks.blocks.values():
        if isinstance(component, gr.HTML):
            assert getattr(component, "sanitize_html", True)
            assert markup_in(json.dumps(component.value)) == []


def test_html_is_made_in_one_place():
    """No page puts words into tags by itself: constants of ours, and what text.py makes."""
    tagged = []
    for path in sorted((ROOT / "app" / "pages").glob("*.py")):
        if path.name in {"text.py", "scene.py"}:  # the latter is a page of its own, delivered whole: see the next test
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and any(
                isinstance(part, ast.Constant) and ("<" in str(part.value) and ">" in str(part.value)) for part in node.values
            ):
                tagged.append(f"{path.name}:{node.lineno}")
    assert tagged == []


def test_page_of_a_scene_is_escaped(application, hostile, fake):
    client = fake("web").client(application)
    with hostile.session(write=False) as session:
        known = list(session.scalars(select(Scene.id)))
    for scene in known:
        page = client.get(f"/scene?scene={scene}", headers={"accept": "text/html"})
        assert page.status_code == 200
        assert "&lt;" in page.text
        assert markup_in(page.text) == []
    assert len(known) == 2


def test_table_files_are_written_in_one_place():
    """csv is written by the journal of a training alone, which marks words that a spreadsheet would run."""
    users = [
        path.relative_to(ROOT).as_posix()
        for room in ("app", "connectors", "engine")
        for path in (ROOT / room).rglob("*.py")
        if "csv.writer" in path.read_text() or "csv.DictWriter" in path.read_text() or "to_csv" in path.read_text()
    ]
    assert users == ["engine/training/journal.py"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_errors_and_login_repeat_nothing_unescaped(application, fake, payload):
    client = fake("web").client(application)
    for path in (
        f"/tiles/{payload}.png",
        f"/downloads/labels/{payload}",
        f"/{payload}",
        f"/evaluations/1/{payload}/x.png",
        f"/scene?scene={payload}",
    ):
        answer = client.get(path, headers={"accept": "text/html"})
        assert "text/html" not in answer.headers.get("content-type", "") or markup_in(answer.text) == [], path
        assert answer.headers["x-content-type-options"] == "nosniff"

"""What the annotators page does, without a browser."""

from __future__ import annotations

import socket

import gradio as gr
import pytest
from pydantic import SecretStr

from app.connections import Connections, LabelStudioConnection
from app.pages.annotators import Actions
from app.signing import ml_backend_secret
from app.wiring import annotation_server
from engine.catalog.annotations import set_label_set
from engine.catalog.rounds import ChosenTile, add_round
from engine.catalog.tiles import tiles
from engine.errors import NothingToDo
from engine.stages.pull import PullConfig, pull
from engine.stages.push import PushConfig, push

TOKEN = "CANARY-0123456789abcdef"


@pytest.fixture
def nobody_there():
    """An address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_is_not_there_is_named_with_what_to_do_and_the_token_is_neither_kept_nor_shown(context, nobody_there):
    actions = Actions(context)
    token, state, held, news = context.answer(actions.connect, outputs=4, changes=True)(nobody_there, TOKEN, "")
    assert token == state == held == gr.skip()
    assert nobody_there in news
    assert "do:" in news
    assert TOKEN not in news
    assert Connections.load(context.workspace).label_studio is None
    assert "No server is connected" in actions.status()[0]


def test_a_connection_is_shown_without_its_token(context):
    connection = LabelStudioConnection(url="http://127.0.0.1:8080", token=SecretStr(TOKEN), public_url="http://127.0.0.1:7860")
    Connections(label_studio=connection).save(context.workspace)
    shown, held = Actions(context).status()
    assert held == ""
    assert "http://127.0.0.1:8080" in shown
    assert "http://127.0.0.1:7860/webhooks/label-studio" in shown
    assert TOKEN not in shown


def test_push_and_pull_are_queued_with_what_was_chosen(context):
    actions = Actions(context)
    actions.push(1, "this app", "")
    actions.push(3, "an upload into Label Studio", "")
    actions.push(None, "a folder that Label Studio serves", " /srv/pictures ")
    for _ in range(2):
        actions.pull("as before")
    actions.pull("boxes that more than half of them drew")
    actions.pull_all("as before")
    assert [(job.verb, job.config) for job in context.jobs.queued] == [
        ("push", {}),
        ("push", {"annotators": 3, "images": "upload"}),
        ("push", {"images": "local-files", "local_root": "/srv/pictures"}),
        ("pull", {}),
        ("pull", {"several": "majority"}),
        ("pull", {"full": True}),
    ]


def test_a_folder_that_nobody_named_is_asked_for(context):
    shown, news = context.answer(Actions(context).push, outputs=2, changes=True)(1, "a folder that Label Studio serves", " ")
    assert shown == gr.skip()
    assert "Fill in the folder" in news
    assert context.jobs.queued == []


@pytest.fixture
def studio(context, fake):
    """A server that the workspace is connected to, for a round of three tiles; one of the classes has a name that needs escaping."""
    with fake("label_studio_server").serving() as serving:
        connection = LabelStudioConnection(url=serving.url, token=SecretStr(fake("label_studio_server").TOKEN))
        Connections(label_studio=connection).save(context.workspace)
        with context.workspace.session() as session:
            set_label_set(session, ["car", "<b>ship</b>"])
            chosen = [ChosenTile(tile.id, 1, 30, {}) for tile in tiles(session, split="train")[:3]]
            add_round(session, budget_seconds=60, strategy="random", seed=0, chosen=chosen)
        yield serving


def test_what_would_be_sent_is_shown_and_nothing_is(context, studio):
    shown, news = Actions(context).plan(2, "this app", "")
    assert "Round 1 to a new project" in shown
    assert "<strong>3</strong><span>to add</span>" in shown
    assert "Nothing was sent" in news
    assert (studio.tasks, studio.projects) == ({}, {})
    server = annotation_server(context.workspace)
    push(context.workspace, server, str, PushConfig())
    shown, _ = Actions(context).plan(2, "this app", "")
    assert "It would be refused" in shown
    assert "asks 1 annotator(s) a task" in shown
    studio.projects[1]["maximum_annotations"] = 2
    shown, _ = Actions(context).plan(2, "this app", "")
    assert "It would be refused" not in shown
    assert "labelling interface has the workspace&#x27;s classes" in shown


def test_the_status_says_how_far_annotators_agree_and_names_what_is_held_back(context, studio, fake):
    server = annotation_server(context.workspace)
    push(context.workspace, server, str, PushConfig(annotators=2))
    people = fake("annotators").Annotators(studio.url, fake("label_studio_server").TOKEN)
    people.submit(1, [fake("annotators").rectangle(10, 10, 50, 50)], completed_by=1)
    people.submit(1, [], completed_by=2)
    people.submit(2, [fake("annotators").rectangle(10, 10, 50, 50, "<i>truck</i>")])
    people.close()
    pull(context.workspace, server, PullConfig(several="majority"))
    shown, held = Actions(context).status()
    assert "<strong>3</strong><span>tiles sent</span>" in shown
    assert "<strong>1</strong><span>held back</span>" in shown
    assert "<strong>0.00</strong><span>how far they agree" in shown
    assert "more than half of them drew" in shown
    tile = studio.tasks[2]["data"]["tile_id"]
    assert f'href="/review?tile={tile}"' in held
    assert "project 1, task 2" in held
    assert "&lt;i&gt;truck" in held
    assert "<i>truck" not in held


def test_what_label_studio_needs_to_ask_for_suggestions_is_shown(context):
    connection = LabelStudioConnection(url="http://127.0.0.1:8080", token=SecretStr(TOKEN), public_url="http://127.0.0.1:7860")
    Connections(label_studio=connection).save(context.workspace)
    shown, _ = Actions(context).status()
    assert "http://127.0.0.1:7860/label-studio" in shown
    assert ml_backend_secret(context.workspace) in shown


def test_suggestions_are_offered_only_where_there_is_a_project(context):
    connection = LabelStudioConnection(url="http://127.0.0.1:8080", token=SecretStr(TOKEN), public_url="http://127.0.0.1:7860")
    Connections(label_studio=connection).save(context.workspace)
    with pytest.raises(NothingToDo, match=r"no project of this workspace.*tilehawk push"):
        Actions(context).offer_suggestions()

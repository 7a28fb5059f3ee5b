"""What the annotators page does, without a browser."""

from __future__ import annotations

import socket

import gradio as gr
import pytest
from pydantic import SecretStr

from app.connections import Connections, LabelStudioConnection
from app.pages.annotators import Actions

TOKEN = "CANARY-0123456789abcdef"


@pytest.fixture
def nobody_there():
    """An address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_a_server_that_is_not_there_is_named_with_what_to_do_and_the_token_is_neither_kept_nor_shown(context, nobody_there):
    actions = Actions(context)
    token, state, news = context.answer(actions.connect, outputs=3, changes=True)(nobody_there, TOKEN, "")
    assert token == state == gr.skip()
    assert nobody_there in news
    assert "do:" in news
    assert TOKEN not in news
    assert Connections.load(context.workspace).label_studio is None
    assert "No server is connected" in actions.status()


def test_a_connection_is_shown_without_its_token(context):
    connection = LabelStudioConnection(url="http://127.0.0.1:8080", token=SecretStr(TOKEN), public_url="http://127.0.0.1:7860")
    Connections(label_studio=connection).save(context.workspace)
    shown = Actions(context).status()
    assert "http://127.0.0.1:8080" in shown
    assert "http://127.0.0.1:7860/webhooks/label-studio" in shown
    assert TOKEN not in shown


def test_push_and_pull_are_queued(context):
    Actions(context).push()
    Actions(context).pull()
    Actions(context).pull()
    assert [job.verb for job in context.jobs.queued] == ["push", "pull"]

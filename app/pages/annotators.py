"""The annotators page: the connection to a Label Studio server, tiles out, answers in."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gradio as gr
from sqlalchemy import select

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.signing import webhook_secret
from engine.catalog.schema import RemoteTask

__all__ = ["Actions", "add"]


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def status(self) -> str:
        """The server that is connected, what is out there, and how it can tell us of answers at once."""
        from app.connections import Connections

        connected = Connections.load(self._context.workspace).label_studio
        if connected is None:
            return text.note("No server is connected.")
        with self._context.workspace.session(write=False) as session:
            states = Counter(session.scalars(select(RemoteTask.state)))
        return text.definitions(
            {
                "Server": connected.url,
                "Pictures by": connected.public_url,
                "Tiles sent": sum(states.values()),
                "Answers taken in": states["annotated"],
                "Its webhook, if you want answers at once": f"{connected.public_url}/webhooks/label-studio",
                "with the header X-Tilehawk-Secret": webhook_secret(self._context.workspace),
            }
        )

    def connect(self, url: str, token: str, public_url: str) -> tuple[Any, ...]:
        """Try the token, and keep it if the server knows it."""
        from app.connections import connect_label_studio

        reached_at = public_url.strip() or self._context.settings.public_url
        connected = connect_label_studio(self._context.workspace, url.strip(), token.strip(), public_url=reached_at)
        return "", self.status(), text.done(f"Connected as {connected.user}.")

    def push(self) -> str:
        """Queue the sending of the newest round."""
        self._context.jobs.enqueue("push", {})
        return text.done("Sending is queued.")

    def pull(self) -> str:
        """Queue the taking in of answers."""
        self._context.jobs.enqueue("pull", {}, once=True)
        return text.done("Taking answers in is queued.")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Annotators")
    news = gr.HTML(elem_id="news")
    state = gr.HTML(elem_id="connection")
    with gr.Accordion("Connect a Label Studio server", open=False):
        url = gr.Textbox(label="Its address", placeholder="http://127.0.0.1:8080", elem_id="server-url")
        token = gr.Textbox(label="Access token (Account & Settings)", type="password", elem_id="server-token")
        public = gr.Textbox(
            label="Address under which annotators' browsers reach this app", placeholder="http://127.0.0.1:7860", elem_id="public-url"
        )
        connect = gr.Button("Connect", elem_id="connect")
    with gr.Row():
        push = gr.Button("Send the newest round", variant="primary", elem_id="push")
        pull = gr.Button("Take answers in", elem_id="pull")
    jobs_here = gr.Column()
    quiet: dict[str, Any] = {"api_visibility": "private"}
    with jobs_here:
        follow(context, blocks, verbs={"push", "pull"}, refresh=actions.status, outputs=[state])
    connect.click(
        context.answer(actions.connect, outputs=3, changes=True), inputs=[url, token, public], outputs=[token, state, news], **quiet
    )
    push.click(context.answer(actions.push, outputs=1, changes=True), outputs=news, **quiet)
    pull.click(context.answer(actions.pull, outputs=1, changes=True), outputs=news, **quiet)

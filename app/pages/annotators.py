"""The annotators page: the connection to a Label Studio server, tiles out, answers in."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow

__all__ = ["add"]


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
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
    follow_here = gr.Column()

    def status() -> str:
        from app.connections import Connections

        connected = Connections.load(context.workspace).label_studio
        if connected is None:
            return text.note("No server is connected.")
        return text.definitions({"Server": connected.url, "Pictures by": connected.public_url})

    def join(address: str, secret: str, reached_at: str) -> tuple[Any, ...]:
        from app.connections import connect_label_studio

        connect_label_studio(context.workspace, address.strip(), secret.strip(), public_url=reached_at.strip() or None)
        return "", status(), text.done("Connected: the server knows the token.")

    def send() -> str:
        context.jobs.enqueue("push", {})
        return text.done("Sending is queued.")

    def take() -> str:
        context.jobs.enqueue("pull", {}, once=True)
        return text.done("Taking answers in is queued.")

    quiet: dict[str, Any] = {"api_visibility": "private"}
    with follow_here:
        follow(context, blocks, verbs={"push", "pull"}, refresh=status, outputs=[state])
    connect.click(context.answer(join, outputs=3, changes=True), inputs=[url, token, public], outputs=[token, state, news], **quiet)
    push.click(context.answer(send, outputs=1, changes=True), outputs=news, **quiet)
    pull.click(context.answer(take, outputs=1, changes=True), outputs=news, **quiet)

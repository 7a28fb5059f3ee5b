"""A page with what the server cares about: a file that comes in and is read, and a button that says who presses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr


def build(context: Any) -> gr.Blocks:
    """The page."""

    def greet(request: gr.Request) -> str:
        return f"{request.username} {context.read_only() or 'in charge'}"

    def read(path: str) -> str:
        return Path(path).read_text()

    with gr.Blocks(title="Tilehawk", analytics_enabled=False) as blocks:
        file = gr.File(type="filepath", elem_id="upload")
        said = gr.HTML(elem_id="said")
        gr.Button("Read").click(read, inputs=file, outputs=said, api_visibility="private")
        gr.Button("Greet").click(greet, outputs=said, api_visibility="private")
    return blocks

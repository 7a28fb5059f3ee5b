"""A page with what the server cares about: a file that comes in, and a button."""

from __future__ import annotations

from typing import Any

import gradio as gr


def build(context: Any) -> gr.Blocks:
    """A page that says which user looks at it."""

    def greet(request: gr.Request) -> str:
        return f"{request.username} {context.read_only() or 'in charge'}"

    with gr.Blocks(title="Tilehawk", analytics_enabled=False) as blocks:
        gr.File(type="filepath", elem_id="upload")
        said = gr.HTML(elem_id="said")
        gr.Button("Greet").click(greet, outputs=said, api_visibility="private")
    return blocks

"""HTML made from values: the only way a name, a number or a reason reaches a page, always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Picture", "definitions", "gallery", "note", "table"]

Picture = tuple[str, str]
"""(address, caption) of an image."""


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(key)} {_text(item)}" for key, item in value.items()) or "–"
    return html.escape(str(value), quote=True)


def note(sentence: str) -> str:
    """A paragraph."""
    return f"<p>{_text(sentence)}</p>"


def definitions(pairs: Mapping[str, Any]) -> str:
    """Names with their values."""
    rows = "".join(f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in pairs.items())
    return f"<table>{rows}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head."""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def gallery(pictures: Iterable[Picture], *, width: int = 160) -> str:
    """Pictures with captions, side by side, loaded as they come into view."""
    figures = "".join(
        f'<figure style="margin:0;width:{width}px">'
        f'<img src="{_text(address)}" alt="{_text(caption)}" loading="lazy" style="width:100%;height:auto;display:block">'
        f'<figcaption style="font-size:.75rem;overflow-wrap:anywhere">{_text(caption)}</figcaption></figure>'
        for address, caption in pictures
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.6rem">{figures}</div>'

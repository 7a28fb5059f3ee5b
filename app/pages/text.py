"""HTML made from values: the only way a name, a number or a reason reaches a page, always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import TilehawkError

__all__ = ["Picture", "Raw", "bar", "card", "definitions", "done", "gallery", "link", "note", "problem", "table"]

Picture = tuple[str, str] | tuple[str, str, str]
"""(address, caption) of an image, and where a click on it leads."""


@dataclass(frozen=True)
class Raw:
    """HTML that this module made: it is not escaped once more."""

    html: str


def _text(value: Any) -> str:
    if isinstance(value, Raw):
        return value.html
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
    figures = "".join(_figure(*picture, width=width) for picture in pictures)
    return f'<div style="display:flex;flex-wrap:wrap;gap:.6rem">{figures}</div>'


def _figure(address: str, caption: str, target: str | None = None, *, width: int) -> str:
    image = f'<img src="{_text(address)}" alt="{_text(caption)}" loading="lazy" style="width:100%;height:auto;display:block">'
    shown = image if target is None else f'<a href="{_text(target)}">{image}</a>'
    words = f'<figcaption style="font-size:.75rem;overflow-wrap:anywhere">{_text(caption)}</figcaption>'
    return f'<figure style="margin:0;width:{width}px">{shown}{words}</figure>'


def link(address: str, words: Any) -> Raw:
    """A link to an address of our own."""
    return Raw(f'<a href="{_text(address)}">{_text(words)}</a>')


def bar(done: float, total: float) -> Raw:
    """How much of a job is done; without a total, that it goes on."""
    return Raw(f'<progress value="{_text(done)}" max="{_text(total)}"></progress>' if total else "<progress></progress>")


def card(title: str, body: str, *, kind: str = "note") -> str:
    """A framed box with a title; ``body`` is HTML that this module made."""
    return f'<section class="card {_text(kind)}"><strong>{_text(title)}</strong>{body}</section>'


def done(sentence: str) -> str:
    """The line of news after something went well."""
    return card(sentence, "", kind="done")


def problem(error: TilehawkError) -> str:
    """An error as what was found, what was expected, and what to do."""
    parts = [("expected", error.expected), ("do", error.remedy)]
    return card(error.found, "".join(f"<p>{name}: {_text(words)}</p>" for name, words in parts if words), kind="problem")

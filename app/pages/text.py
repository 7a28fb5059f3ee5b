"""HTML made from values: the only way a name, a number or a reason reaches a page, always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import TilehawkError

__all__ = [
    "Picture",
    "Raw",
    "TileCard",
    "bar",
    "beside",
    "card",
    "classes",
    "definitions",
    "done",
    "figures",
    "gallery",
    "legend",
    "link",
    "note",
    "problem",
    "scrolled",
    "shortcuts",
    "table",
    "tile_cards",
    "uploader",
]

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


def joined(*parts: Any) -> Raw:
    """Words and links, one after the other."""
    return Raw("".join(_text(part) for part in parts))


def note(sentence: str | Raw) -> str:
    """A paragraph."""
    return f"<p>{_text(sentence)}</p>"


def figures(pairs: Mapping[str, Any]) -> str:
    """Numbers that matter: each large, over its name."""
    shown = "".join(f"<div><strong>{_text(value)}</strong><span>{_text(name)}</span></div>" for name, value in pairs.items())
    return f'<div class="figures">{shown}</div>'


def definitions(pairs: Mapping[str, Any]) -> str:
    """Names with their values."""
    rows = "".join(f'<tr><th scope="row">{_text(name)}</th><td>{_text(value)}</td></tr>' for name, value in pairs.items())
    return f"<table>{rows}</table>"


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table with a head."""
    head = "".join(f'<th scope="col">{_text(column)}</th>' for column in columns)
    body = "".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def scrolled(wide: str) -> str:
    """HTML that this module made, in a frame of its own that scrolls sideways where the page is too narrow for it."""
    return f'<div class="wide">{wide}</div>'


def legend(scales: Mapping[str, tuple[Sequence[int], Sequence[int]]], sentence: str = "") -> str:
    """Scales of colours, each from one RGB to another, with what they mean."""
    drawn = "".join(
        f'<span><i style="background:linear-gradient(90deg,#{bytes(low).hex()},#{bytes(high).hex()})"></i>{_text(name)}</span>'
        for name, (low, high) in scales.items()
    )
    return f'<p class="legend">{drawn}{_text(sentence)}</p>'


def gallery(pictures: Iterable[Picture], *, width: int = 160) -> str:
    """Pictures with captions, side by side, loaded as they come into view."""
    figures = "".join(_figure(*picture, width=width) for picture in pictures)
    return f'<div style="display:flex;flex-wrap:wrap;gap:.6rem">{figures}</div>'


def beside(*parts: str) -> str:
    """HTML that this module made, side by side."""
    return f'<div style="display:flex;gap:.6rem;align-items:flex-start">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def _figure(address: str, caption: str, target: str | None = None, *, width: int) -> str:
    image = f'<img src="{_text(address)}" alt="{_text(caption)}" loading="lazy" style="width:100%;height:auto;display:block">'
    shown = image if target is None else f'<a href="{_text(target)}">{image}</a>'
    words = f'<figcaption style="font-size:.75rem;overflow-wrap:anywhere">{_text(caption)}</figcaption>'
    return f'<figure style="margin:0;width:{width}px">{shown}{words}</figure>'


@dataclass(frozen=True)
class TileCard:
    """A picture's address, a title, marks beside it, what is said below, and where a click on the picture leads."""

    address: str
    title: str
    marks: Sequence[str]
    sentences: Sequence[str | Raw]
    target: str


def tile_cards(cards: Iterable[TileCard]) -> str:
    """Framed pictures with what is said of each, side by side, loaded as they come into view."""
    return f'<div class="tiles">{"".join(_tile_card(each) for each in cards)}</div>'


def _tile_card(each: TileCard) -> str:
    image = f'<a href="{_text(each.target)}"><img src="{_text(each.address)}" alt="{_text(each.title)}" loading="lazy"></a>'
    marks = "".join(f"<em>{_text(mark)}</em>" for mark in each.marks)
    said = "".join(f"<p>{_text(sentence)}</p>" for sentence in each.sentences)
    return f'<article class="tile">{image}<div><p><strong>{_text(each.title)}</strong>{marks}</p>{said}</div></article>'


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


def problem(error: TilehawkError, *, kind: str = "problem") -> str:
    """An error as what was found, what was expected, and what to do; of another ``kind`` where it is none, but something to be done."""
    parts = [("expected", error.expected), ("do", error.remedy)]
    return card(error.found, "".join(f"<p>{name}: {_text(words)}</p>" for name, words in parts if words), kind=kind)


def uploader(purpose: str, words: str, largest: int) -> str:
    """A place to choose a file that goes up piece by piece, and goes on after any interruption (web/uploads.js).

    Args:
        purpose: what it is for, ``imagery`` or ``labels``.
        words: what is said there.
        largest: bytes that it may have.
    """
    return f'<tilehawk-upload purpose="{_text(purpose)}" words="{_text(words)}" largest="{_text(largest)}"></tilehawk-upload>'


def shortcuts(hints: Sequence[tuple[str, str]], rows: Sequence[tuple[Sequence[str], str]], bindings: str) -> str:
    """A page's keys: a line of the most used with a button for all, and the dialog that it opens (web/keys.js).

    Args:
        hints: (key, what it does in a word).
        rows: (keys, what they do).
        bindings: a JSON object for the script.
    """

    def named(key: str) -> str:
        return f"<kbd>{_text(key)}</kbd>"

    line = "".join(f"<span>{named(key)} {_text(word)}</span>" for key, word in hints)
    button = '<button type="button" class="keys-help" aria-haspopup="dialog">All keys (?)</button>'
    body = "".join(f"<tr><td>{' '.join(named(key) for key in keys)}</td><td>{_text(words)}</td></tr>" for keys, words in rows)
    table_of_keys = f'<table><thead><tr><th scope="col">Key</th><th scope="col">What it does</th></tr></thead><tbody>{body}</tbody></table>'
    close = '<form method="dialog"><button type="submit">Close (Esc)</button></form>'
    dialog = f'<dialog class="keys" aria-label="Keys of this page">{table_of_keys}{close}</dialog>'
    return f'<p class="keys-hint" data-keys="{_text(bindings)}">{line}{button}</p>{dialog}'


def classes(colours: Mapping[str, str]) -> str:
    """The classes in their order, each with its colour (``#rrggbb``) and, up to nine, the digit that chooses it."""
    shown = "".join(
        f'<li data-class="{_text(name)}" data-colour="{_text(colour)}">'
        f'{f"<kbd>{number}</kbd>" if number < 10 else ""}<i style="background:{_text(colour)}"></i>{_text(name)}</li>'
        for number, (name, colour) in enumerate(colours.items(), start=1)
    )
    return f'<ol class="classes">{shown}</ol>'

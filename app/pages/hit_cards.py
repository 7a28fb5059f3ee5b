"""Look-alikes as the page Find shows them: which is asked, all of them, how far one is, and how often scores were right."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import gradio as gr

from app.pages import text
from engine.catalog.decisions import dividing_score, score_bands
from engine.catalog.searches import HitRecord, SearchRecord

__all__ = ["STEP", "above", "counted", "gallery", "large", "lowest", "named", "next_hit", "slider", "stamp", "standing", "undecided"]

HIT_PIXELS, LARGE_PIXELS, NEXT_PIXELS = 140, 460, 96
COMING = 4
"""So many look-alikes that come next are shown small, and loaded."""
SHOWN = 60
STEP = 0.005
"""Of the slider of scores."""


def named(search: SearchRecord) -> str:
    """A search in the list of them."""
    return f"{search.id}: tile {search.tile_id}, {search.hits} look-alikes"


def counted(number: int, noun: str) -> str:
    """A number of things."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def above(found: Sequence[HitRecord], score: float | None) -> list[HitRecord]:
    """Those of this score or more; None hides nothing."""
    return [each for each in found if score is None or each.score >= score]


def lowest(found: Sequence[HitRecord]) -> float:
    """The lower end of the slider: no score of the look-alikes, of which there is one at least, is below it by more than rounding."""
    return round(math.floor(min(each.score for each in found) / STEP) * STEP, 3)


def undecided(found: Sequence[HitRecord]) -> list[HitRecord]:
    """Those that nobody has decided on."""
    return [each for each in found if each.decision is None]


def next_hit(found: Sequence[HitRecord], hit_id: int | None, step: int) -> HitRecord | None:
    """The open look-alike ``step`` behind ``hit_id`` (before it where it is negative), around the end; without a step that one itself."""
    waiting = undecided(found)
    if not waiting:
        return None
    here = next((each for each in found if each.id == hit_id), None)
    if here is None:
        return waiting[0]
    if step == 0:
        return here if here.decision is None else next((each for each in waiting if each.position > here.position), waiting[0])
    if step > 0:
        return next((each for each in waiting if each.position > here.position), waiting[0])
    return next((each for each in reversed(waiting) if each.position < here.position), waiting[-1])


def _address(hit: HitRecord, width: int) -> str:
    """Where its picture is; a box that a search still moves gets another address."""
    return f"/hits/{hit.id}.png?width={width}&of={stamp([hit])}"


def stamp(found: Sequence[HitRecord]) -> str:
    """Short hash of where they lie: a search that goes on may move them."""
    return hashlib.sha256(repr([(each.id, each.tile.id, each.box_tile) for each in found]).encode()).hexdigest()[:8]


def large(found: Sequence[HitRecord], shown: Sequence[HitRecord], current: HitRecord | None) -> str:
    """The look-alike that is asked, large, and those that come next."""
    if current is None:
        hidden = len(undecided(found)) - len(undecided(shown))
        rest = f" {counted(hidden, 'look-alike')} below the score wait." if hidden else ""
        return text.note(f"All {len(shown)} look-alikes are decided.{rest}" if found else "This search found nothing.")
    caption = f"score {current.score:.2f} · {current.tile.scene_name}"
    coming = [each for each in undecided(shown) if each.position > current.position][:COMING]
    one = text.gallery([(_address(current, LARGE_PIXELS), caption)], width=LARGE_PIXELS)
    small = text.gallery([(_address(each, LARGE_PIXELS), f"{each.score:.2f}") for each in coming], width=NEXT_PIXELS)
    return text.beside(one, small)


def gallery(shown: Sequence[HitRecord]) -> str:
    """All of them small, with what was said of each, best first."""
    pictures = [
        (_address(each, HIT_PIXELS), f"{each.score:.2f} {each.decision or ''}".strip(), f"/review?tile={each.tile.id}")
        for each in shown[:SHOWN]
    ]
    left = text.note(f"and {len(shown) - SHOWN} more") if len(shown) > SHOWN else ""
    return text.gallery(pictures, width=HIT_PIXELS) + left


def standing(found: Sequence[HitRecord], shown: Sequence[HitRecord], seconds: float) -> str:
    """How far one is, and how often which scores were right so far."""
    decided = len(found) - len(undecided(found))
    yes = sum(each.decision == "yes" for each in found)
    said = f"{decided} of {len(found)} decided: {yes} yes, {decided - yes} no"
    said += f"; {seconds:.0f} s, {seconds / decided:.1f} s each" if seconds and decided else ""
    hidden = f" {len(found) - len(shown)} below the score are hidden." if len(shown) < len(found) else ""
    bands = [f"{band.yes} of {band.yes + band.no} from {band.low:.2f} to {band.high:.2f}" for band in score_bands(found)]
    parting = dividing_score(found)
    parts = f" Yes and no part best at {parting:.2f}." if parting is not None else ""
    right = text.note(f"Right so far: {', '.join(bands)}.{parts}") if bands else ""
    return text.note(text.joined(text.bar(decided, max(len(found), 1)), f" {said}.{hidden}")) + right


def slider(found: Sequence[HitRecord], score: float | None) -> Any:
    """Over the scores that there are; where nothing is hidden it stands at its lower end."""
    if not found:
        return gr.skip()
    low, high = lowest(found), math.ceil(max(each.score for each in found) / STEP) * STEP
    return gr.update(minimum=low, maximum=round(max(high, low + STEP), 3), value=low if score is None else round(max(score, low), 3))

"""The page of one scene: all of it, as deep as its pixels go, with its boxes and tiles. A page of its own, drawn by web/scene.js."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from html import escape

from engine.evaluation.drawing import PALETTE
from engine.records import Window

__all__ = ["SceneFacts", "scene_page"]

PAGE = string.Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name · Tilehawk</title>
<link rel="stylesheet" href="/web/leaflet/leaflet.css"><link rel="stylesheet" href="/web/scene.css">
<script src="/web/leaflet/leaflet.js" defer></script><script src="/web/scene.js" defer></script></head>
<body><header><a href="/imagery">Imagery</a><h1>$name</h1><span>$width × $height pixels</span>
<span id="said" role="status"></span>
<label>Detections from <output id="score-shown"></output>
<input id="score" type="range" min="0.05" max="0.95" step="0.05" value="0.3"></label>
</header>
<main id="map" data-facts="$facts"></main>
<footer><span class="classes">$classes</span>
<span><i class="dashed"></i>the newest detector's</span>
<span><i class="tile reviewed"></i>tile looked at</span><span><i class="tile chosen"></i>chosen by a round</span>
<span><i class="tile open"></i>not looked at</span><span>A click on a tile opens it for review.</span></footer>
</body></html>
""")


@dataclass(frozen=True)
class SceneFacts:
    """What the page is told: the scene, the level that shows its pixels as they are, the classes, and where it opens (None: all of it)."""

    id: int
    name: str
    width: int
    height: int
    levels: int
    classes: tuple[str, ...]
    focus: Window | None = None


def scene_page(scene: SceneFacts) -> str:
    """The page as HTML."""
    colours = ["#" + bytes(PALETTE[index % len(PALETTE)]).hex() for index in range(len(scene.classes))]
    facts = {
        "id": scene.id,
        "width": scene.width,
        "height": scene.height,
        "levels": scene.levels,
        "colours": colours,
        "focus": scene.focus.xyxy if scene.focus else None,
    }
    named = [
        f'<span><i style="border-color:{colour}"></i>{escape(name)}</span>' for name, colour in zip(scene.classes, colours, strict=True)
    ]
    return PAGE.substitute(
        name=escape(scene.name),
        width=scene.width,
        height=scene.height,
        facts=escape(json.dumps(facts)),
        classes="".join(named) or "no classes yet",
    )

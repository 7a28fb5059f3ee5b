"""What the rounds cost and bought, tile by tile, scene by scene and round by round, as the page Budget shows it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.pages import text
from app.pages.context import PageContext
from engine.catalog.annotations import tile_boxes
from engine.catalog.costs import stored_cost
from engine.catalog.counterfactual import RoundGap, chance_gaps, stored_fall_back
from engine.catalog.rounds import AUDIT, get_round, round_tiles, rounds, seconds_spent, stored_left_out, stored_why_cold
from engine.catalog.schema import RoundRow, RoundTile
from engine.catalog.spending import scene_spending, tile_spending
from engine.catalog.summary import RoundSummary, summarize
from engine.catalog.tiles import tiles
from engine.evaluation.spending_map import PLANNED, SPENT, full_seconds
from engine.selection.cost import Prices
from engine.selection.cost_fit import CostFitConfig

__all__ = ["duration", "maps", "money", "round_cards", "rounds_table", "tile_count"]

HOUR = 3600.0
CARDS_SHOWN, CARD_PIXELS = 60, 224
SCENES_SHOWN, SCENE_PIXELS = 12, 300
COLUMNS = [
    "Round",
    "Strategy",
    "Tiles",
    "Boxes",
    "Foretold P50–P90",
    "Measured",
    "Money",
    "AP50 after",
    "Taught a minute, times chance",
]


def duration(seconds: float) -> str:
    """Seconds in the unit that people would say."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:,.1f} h"


def money(amount: float, currency: str) -> str:
    """An amount of money; cents where they matter."""
    return f"{amount:,.0f} {currency}" if amount >= 100 else f"{amount:,.2f} {currency}"


def tile_count(number: int) -> str:
    """So many tiles."""
    return f"{number:,} tile" if number == 1 else f"{number:,} tiles"


def round_cards(context: PageContext, number: int | None) -> str:
    """The tiles of a round in their order, each with its reason, its price, the classes that are expected, and its marks."""
    with context.workspace.session(write=False) as session:
        if number is None or not rounds(session):
            return text.note("No round yet: choose tiles above.")
        row = get_round(session, int(number))
        links = round_tiles(session, row)
        seen = _looked_at(session, row, links)
        left_out, cold = stored_left_out(row), stored_why_cold(row)
    audited = sum(bool(link.reasons.get("audit")) for link in links)
    drawn = (
        f"; {audited or 'none'} drawn at random, to hold the others against" if audited or (row.strategy == "tilehawk" and not cold) else ""
    )
    waited = f" {tile_count(left_out)} were not up for choice, for rounds before wait with them." if left_out else ""
    head = text.note(
        f"{tile_count(len(links))} by {row.strategy}, {len(seen)} looked at; {duration(row.estimated_seconds)} expected of "
        f"{duration(row.budget_seconds)} given{drawn}.{waited} A click on a picture opens the tile for review."
    )
    if cold:
        head += text.note(f"{cold[0].upper()}{cold[1:]}.")
    left = text.note(f"and {len(links) - CARDS_SHOWN} more") if len(links) > CARDS_SHOWN else ""
    shown = (_card(link, link.tile_id in seen) for link in links[:CARDS_SHOWN])
    return head + text.tile_cards(shown) + left


def _looked_at(session: Session, row: RoundRow, links: Sequence[RoundTile]) -> set[int]:
    """The tiles of a round that are done: reviewed, or in an audit, whose tiles were reviewed before, looked at again."""
    if row.strategy == AUDIT:
        return {link.tile_id for link in links if link.measured_seconds is not None}
    return {tile.id for tile in tiles(session, ids=[link.tile_id for link in links], reviewed=True)}


def _card(link: RoundTile, reviewed: bool) -> text.TileCard:
    reasons = link.reasons
    foretold = reasons.get("seconds")
    cost = f"P50 {foretold['p50']:.0f} s, P90 {foretold['p90']:.0f} s" if foretold else f"{link.estimated_seconds:.0f} s expected"
    if link.measured_seconds is not None:
        cost += f"; measured {link.measured_seconds:.0f} s"
    classes = ", ".join(f"{count:.0f} × {name}" for name, count in (reasons.get("classes") or {}).items())
    sentences = [reasons.get("why") or "No reason was kept.", cost, *([f"expected: {classes}"] if classes else [])]
    marks = [mark for mark, holds in (("drawn at random", reasons.get("audit")), ("looked at", reviewed)) if holds]
    return text.TileCard(
        address=f"/tiles/{link.tile_id}.png?width={CARD_PIXELS}",
        title=f"{link.position + 1}. tile {link.tile_id}",
        marks=marks,
        sentences=sentences,
        target=f"/review?tile={link.tile_id}",
    )


def maps(context: PageContext, number: int | None) -> str:
    """The dearest scenes with their tiles coloured by seconds, those of round ``number`` clear."""
    with context.workspace.session(write=False) as session:
        known = tile_spending(session)
        scenes = scene_spending(session, known)
    if not scenes:
        return text.note("Nothing is spent or planned yet.")
    of = "" if number is None else f"?round={int(number)}"
    shown = [
        (
            f"/spending/{each.scene_id}.png{of}",
            f"{each.name}: {tile_count(each.tiles)}, {duration(each.spent_seconds)} spent, {duration(each.planned_seconds)} planned",
        )
        for each in scenes[:SCENES_SHOWN]
    ]
    spent, planned = sum(each.spent_seconds for each in scenes), sum(each.planned_seconds for each in scenes)
    head = text.note(f"{duration(spent)} spent and {duration(planned)} planned on {len(scenes)} scenes, the dearest first.")
    left = text.note(f"and {len(scenes) - SCENES_SHOWN} more scenes") if len(scenes) > SCENES_SHOWN else ""
    return head + _legend(full_seconds([tile.seconds for tile in known]), number) + text.gallery(shown, width=SCENE_PIXELS) + left


def _legend(full: float, number: int | None) -> str:
    scale = f"0 to {duration(full)} and more a tile"
    clear = "" if number is None else f"Tiles of round {int(number)} are clear and have a border, those of others are pale."
    return text.legend({f"spent, {scale}": SPENT, f"planned, {scale}": PLANNED}, clear)


def rounds_table(context: PageContext) -> str:
    """Every round: what it was to cost and did, what it bought, and whether choosing was worth more than chance."""
    summary = summarize(context.workspace)
    if not summary.rounds:
        return text.note("No round yet.")
    settings = context.settings
    with context.workspace.session(write=False) as session:
        gaps = {each.round: each for each in chance_gaps(session, Prices(), CostFitConfig())}
        known = {row.number: row for row in rounds(session)}
        rows = [
            _row(session, known[each.number], each, gaps[each.number], settings.hourly_rate, settings.currency) for each in summary.rounds
        ]
        fell_back = [(row.number, why) for row in known.values() if (why := stored_fall_back(row))]
    notes = "".join(text.note(f"Round {number} fell back on chance: {why}.") for number, why in fell_back)
    return text.scrolled(text.table(COLUMNS, rows)) + notes


def _row(session: Session, row: RoundRow, each: RoundSummary, gap: RoundGap, rate: float, currency: str) -> list[str | None]:
    links = round_tiles(session, row)
    seen = tiles(session, ids=sorted(_looked_at(session, row, links)))
    cost, spent = stored_cost(row), seconds_spent(session, row) or row.measured_seconds
    rate, currency = (cost.hourly_rate, cost.currency) if cost else (rate, currency)
    planned = cost.seconds_p50 if cost else row.estimated_seconds
    return [
        str(row.number),
        f"{row.strategy}, fell back" if gap.fell_back else row.strategy,
        f"{len(seen)} of {len(links)} looked at",
        str(sum(len(boxes) for boxes in tile_boxes(session, seen).values())),
        f"{duration(cost.seconds_p50)} – {duration(cost.seconds_p90)}" if cost else f"{duration(row.estimated_seconds)} expected",
        duration(spent) if spent else None,
        money(spent / HOUR * rate, currency) if spent else f"{money(planned / HOUR * rate, currency)} foretold",
        f"{each.metrics['ap50']:.3f}" if each.metrics else None,
        _against_chance(gap),
    ]


def _against_chance(gap: RoundGap) -> str | None:
    """The gap, and which rounds it is of where that is not one alone."""
    if gap.gap is None:
        return None
    said = f"{gap.gap.ratio:.2f} ({gap.gap.low:.2f} to {gap.gap.high:.2f})"
    return said if gap.first == gap.round else f"{said}, {gap.rounds}"

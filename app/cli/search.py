"""Commands about look-alikes: search, search send."""

from __future__ import annotations

from typing import Annotated

import typer

from app.cli.options import ConfigOption, JsonOption, NoQueueOption, SetOption, WorkspaceOption, configured
from app.cli.stage import run_stage
from engine.errors import UsageError

__all__ = ["add_to"]


def add_to(searched: typer.Typer) -> None:
    """Register the commands of this group."""
    searched.callback(invoke_without_command=True)(search)
    searched.command()(send)


def search(
    context: typer.Context,
    *,
    tile: Annotated[int | None, typer.Option(help="Number of the tile on which the box lies.", show_default=False)] = None,
    box: Annotated[
        str | None, typer.Option(metavar="X1,Y1,X2,Y2", help="The box around one object, in pixels of the tile.", show_default=False)
    ] = None,
    query: Annotated[
        str | None,
        typer.Option(metavar="TILE:X,Y,W,H", help="Both at once: a tile, and a box by its corner and sides.", show_default=False),
    ] = None,
    hits: Annotated[int | None, typer.Option(help="Look-alikes at most.", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="The model; else the newest one-shot or pre-trained.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    no_queue: NoQueueOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find on the training ground what looks like one box; the page Find shows the look-alikes and takes a yes or no to each."""
    if context.invoked_subcommand is not None:
        return
    from engine.stages.search import SearchConfig

    sides = None if box is None else _sides(box)
    if query is not None:
        if tile is not None or box is not None:
            raise UsageError("--query beside --tile or --box", expected="one or the other")
        tile, sides = _query(query)
    chosen = configured(SearchConfig, config, settings, tile=tile, box=sides, hits=hits, model=model)
    run_stage("search", chosen, workspace=workspace, as_json=as_json, no_queue=no_queue)


def send(
    number: Annotated[int, typer.Argument(metavar="SEARCH", help="Number of the search.", show_default=False)],
    *,
    around: Annotated[
        float | None, typer.Option(help="The score around which it is unsure; else the one that parts yes from no.", show_default=False)
    ] = None,
    margin: Annotated[float | None, typer.Option(help="How far a score may be from there; else however far.", show_default=False)] = None,
    tiles: Annotated[int | None, typer.Option(help="Tiles at most, the nearest scores first.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    config: ConfigOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send look-alikes that a search was unsure of to annotators: their tiles become a round, which Review queues and `push` sends."""
    from engine.stages.near_misses import NearMissConfig, send_near_misses

    chosen = configured(NearMissConfig, config, settings, search=number, around=around, margin=margin, tiles=tiles)
    run_stage(send_near_misses, chosen, workspace=workspace, as_json=as_json)


def _query(text: str) -> tuple[int, list[float]]:
    """``TILE:X,Y,W,H`` as a tile and the box's corners."""
    number, _, box = text.partition(":")
    try:
        tile, (x, y, width, height) = int(number), (float(side) for side in box.split(","))
    except ValueError as error:
        raise UsageError(f"--query {text}", expected="TILE:X,Y,W,H", remedy="For example --query 7:12,40,43,50") from error
    return tile, [x, y, x + width, y + height]


def _sides(text: str) -> list[float]:
    try:
        sides = [float(side) for side in text.split(",")]
    except ValueError:
        sides = []
    if len(sides) != 4:
        raise UsageError(f"--box {text}", expected="four numbers X1,Y1,X2,Y2", remedy="For example --box 12,40,55,90")
    return sides

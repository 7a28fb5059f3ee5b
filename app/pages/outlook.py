"""What the next money buys, as the page Budget says it: the forecast, where one is possible, and the pictures of stages."""

from __future__ import annotations

import base64
from pathlib import Path
from tempfile import TemporaryDirectory

from app.pages import text
from app.pages.context import PageContext
from app.pages.spending import HOUR, duration, money, tile_count
from engine.catalog.rounds import AUDIT, round_tiles, rounds
from engine.catalog.simulations import stored_simulations
from engine.errors import NothingToDo, TilehawkError
from engine.simulation.comparison import Comparison, Reached, read_comparison
from engine.simulation.curves import Unit
from engine.stages.costs import CostsConfig, costs
from engine.stages.forecast import ForecastConfig, ForecastReport, Prospect, priced, prospect

__all__ = ["Outlook", "doubtful_labels", "foretold_against_measured", "strategies_table"]

DIAGRAM_PIXELS, SHEET_PIXELS = 620, 900
SPENT: dict[Unit, str] = {"seconds": "an annotator's hours", "boxes": "boxes", "tiles": "tiles"}
IN_OTHER_UNITS: tuple[Unit, ...] = ("boxes", "tiles")


class Outlook:
    """The forecast of a workspace: its curves are fitted once, and priced for every budget that is asked for."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._found: Prospect | TilehawkError | None = None

    def renew(self) -> Prospect | TilehawkError:
        """Read the workspace again; the error says what is missing where no forecast is possible yet."""
        try:
            self._found = prospect(self._context.workspace, self._config(None, None))
        except TilehawkError as missing:
            self._found = missing
        return self._found

    def hours_left(self, rate: float) -> float | None:
        """What annotating every tile left takes, as quickly as so far; None while that is not known."""
        found = self._found or self.renew()
        if isinstance(found, TilehawkError):
            return None
        report = self._priced(found, None, rate)
        return report.tiles_left / report.rates.tiles_per_hour

    def say(self, seconds: float, rate: float) -> str:
        """What so many seconds of annotators buy, or what a forecast still needs."""
        found = self._found or self.renew()
        if isinstance(found, TilehawkError):
            spent = {"hours": _hours(seconds / HOUR), "money": money(seconds / HOUR * rate, self._context.settings.currency)}
            return text.figures(spent) + text.note("What that buys cannot be foretold yet:") + text.problem(found, kind="readonly")
        return _forecast(self._priced(found, seconds, rate))

    def picture(self, seconds: float, rate: float) -> str:
        """The learning curve with the forecast as this visitor asks for it: the picture stands in the page, and in no file."""
        found = self._found or self.renew()
        if isinstance(found, TilehawkError):
            return ""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "forecast.png"
            self._priced(found, seconds, rate, picture=file)
            drawn = base64.b64encode(file.read_bytes()).decode()
        caption = "AP50 after each round, and what is to be expected"
        return text.gallery([(f"data:image/png;base64,{drawn}", caption)], width=DIAGRAM_PIXELS)

    def _priced(self, found: Prospect, seconds: float | None, rate: float, *, picture: Path | None = None) -> ForecastReport:
        return priced(self._context.workspace, found, self._config(seconds, rate), picture=picture)

    def _config(self, seconds: float | None, rate: float | None) -> ForecastConfig:
        settings = self._context.settings
        return ForecastConfig(budget_seconds=seconds, hourly_rate=rate or settings.hourly_rate, currency=settings.currency, picture=False)


def _forecast(report: ForecastReport) -> str:
    today, bought, currency = report.today, report.budget, report.rates.currency
    share = f"{report.interval:.0%}"
    spent = {
        "tiles": f"{bought.tiles:,}",
        "boxes": f"{bought.boxes:,}",
        "hours": _hours(bought.hours),
        "money": money(bought.money, currency),
    }
    worth = {
        f"AP50 today, {today.low:.3f} to {today.high:.3f}": f"{today.ap50:.3f}",
        f"AP50 then, {bought.low:.3f} to {bought.high:.3f} with {share}": f"{bought.ap50:.3f}",
    }
    if bought.next_money:
        step = money(bought.next_money, currency)
        worth[f"{step} beyond that add, {bought.next_low:.3f} to {bought.next_high:.3f}"] = f"+{bought.next_gain:.3f}"
    advice = text.card(report.advice, "".join(text.note(each) for each in report.notes), kind="problem" if report.stop.stop else "done")
    return text.figures(spent) + text.figures(worth) + advice


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 10 else f"{hours:,.0f}"


def stored_picture(context: PageContext, name: str, caption: str, *, width: int) -> str:
    """The picture of that name below ``reports``, at another address once it was drawn anew; nothing where there is none."""
    try:
        drawn = (context.workspace.reports / f"{name}.png").stat().st_mtime_ns
    except FileNotFoundError:
        return ""
    return text.gallery([(f"/reports/{name}.png?drawn={drawn}", caption)], width=width)


def foretold_against_measured(context: PageContext) -> str:
    """What rounds were to cost against what they did cost: a sentence and the picture, drawn anew where something may be written."""
    settings = context.settings
    config = CostsConfig(hourly_rate=settings.hourly_rate, currency=settings.currency, picture=context.read_only() is None)
    try:
        report = costs(context.workspace, config)
    except NothingToDo as nothing:
        return text.note(f"{nothing.found[0].upper()}{nothing.found[1:]}.")
    error = (
        "no round is timed yet" if report.median_error_percent is None else f"median error of a round {report.median_error_percent:.0f} %"
    )
    learned = f"prices learned from {report.used} of {report.visits} measured visits" if report.used else "prices are priors"
    said = text.note(f"{error[0].upper()}{error[1:]}; {learned}; {report.idle} visits were left lying and do not count.")
    return said + (stored_picture(context, "costs", "Seconds foretold against measured", width=DIAGRAM_PIXELS) if report.rounds else "")


def strategies_table(context: PageContext) -> str:
    """The newest simulation: what each strategy reached, in how much of the control's time, and whether it can be told from the control."""
    found = next(iter(stored_simulations(context.workspace)), None)
    if found is None:
        return text.note(
            "No simulation yet. It replays budgets on the tiles that are labelled, and trains a detector in every round of it."
        )
    try:
        comparison = read_comparison(found.folder)
    except NothingToDo as nothing:
        return text.note(f"{nothing.found[0].upper()}{nothing.found[1:]}.")
    address = f"/simulations/{found.name}.png?drawn={found.picture.stat().st_mtime_ns}"
    said = text.note(
        "No strategy can be told from chance by these seeds: more of them make the intervals narrower."
        if comparison.best is None
        else f"{comparison.best} needs less time than chance over all seeds{_corrected(comparison)}."
    )
    for sentence in filter(None, (comparison.shares_left_out, found.caution)):
        said += text.note(f"{sentence[0].upper()}{sentence[1:]}.")
    pictures = [(address, f"AP50 over {SPENT[comparison.unit]}")]
    if found.seeds_picture.is_file():
        pictures.append(
            (f"/simulations/{found.name}/seeds.png?drawn={found.seeds_picture.stat().st_mtime_ns}", "AP50 after each round, over seeds")
        )
    return said + _held(comparison) + text.gallery(pictures, width=DIAGRAM_PIXELS)


def _corrected(comparison: Comparison) -> str:
    held = len(comparison.final) - 1
    return f", all {held} comparisons counted (Holm)" if held > 1 else ""


def _held(comparison: Comparison) -> str:
    """The strategies side by side: to the control's end, in boxes and tiles too, to shares of all labels, at other seconds a drawn box."""
    columns = [
        "Strategy",
        "AP50 at the end",
        f"To random's AP50, {comparison.target:.3f}",
        "Of random's time",
        "95 % over seeds",
        *(f"Of random's {unit}" for unit in IN_OTHER_UNITS),
        *(f"To {share} of all labels' AP50 ({comparison.full_looks:.1f} looks a tile)" for share in comparison.to_share),
        *(f"Of random's time at {drawing}" for drawing in comparison.ratio_at),
    ]
    rows = [
        (
            name,
            f"{ap50:.3f}",
            "not reached" if (seconds := comparison.to_target[name]) is None else duration(seconds),
            _percent(comparison.ratio[name]),
            None if (band := comparison.ratio_interval[name]) is None else f"{band[0]:.0%} to {band[1]:.0%}",
            *(_percent(comparison.axes[unit].ratio[name]) for unit in IN_OTHER_UNITS),
            *(_reached(reached[name]) for reached in comparison.to_share.values()),
            *(_percent(ratios[name]) for ratios in comparison.ratio_at.values()),
        )
        for name, ap50 in sorted(comparison.final.items(), key=lambda each: (comparison.to_target[each[0]] or float("inf"), -each[1]))
    ]
    return text.scrolled(text.table(columns, rows))


def _percent(ratio: float | None) -> str | None:
    return None if ratio is None else f"{ratio:.0%}"


def _reached(reached: Reached) -> str:
    """Seconds over seeds with their interval, or how many seeds fell short."""
    if reached.mean is None:
        return f"{reached.short} of {reached.short + len(reached.seconds)} seeds fell short"
    band = "" if reached.interval is None else f", {duration(max(reached.interval[0], 0.0))} to {duration(reached.interval[1])}"
    return duration(reached.mean) + band


def doubtful_labels(context: PageContext) -> str:
    """The newest audit: how many tiles wait for another look, where to give it, and the sheet of what is doubtful."""
    with context.workspace.session(write=False) as session:
        audits = [row for row in rounds(session) if row.strategy == AUDIT]
        links = round_tiles(session, audits[-1]) if audits else []
    if not audits:
        return text.note(
            "No audit yet. A check opens one where a detector doubts labels and the seconds for audits pay for a look; its job says so."
        )
    waiting = [link.tile_id for link in links if link.measured_seconds is None]
    doubted = f"the detector disagrees with labels on {tile_count(len(links))}"
    said = f"Round {audits[-1].number}: {doubted}; waiting for another look: {len(waiting)}. "
    to_review = (
        text.link(f"/review?tile={waiting[0]}", "Look at them on the page Review") if waiting else "All of them were looked at again."
    )
    return text.note(text.joined(said, to_review)) + stored_picture(context, "audit", "Drawn dashed, doubted in colour", width=SHEET_PIXELS)

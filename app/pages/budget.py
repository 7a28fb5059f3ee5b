"""The budget page: what hours or money buy, the tiles they are spent on, where the rest went, and whether it was worth it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import gradio as gr

from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.pages.outlook import Outlook, doubtful_labels, foretold_against_measured, strategies_table
from app.pages.reviewing import workspace_classes
from app.pages.spending import HOUR, maps, round_cards, rounds_table
from app.roles import Role
from engine.catalog.rounds import rounds
from engine.errors import UsageError
from engine.selection.config import Strategy

__all__ = ["HOURS", "MONEY", "Actions", "add"]

HOURS, MONEY = "hours", "money"
STRATEGIES = list(get_args(Strategy))
CONTROL, BY_CLASSES = "random", "tilehawk"
VERBS_SHOWN = frozenset({"rank", "round", "predict", "retrain", "oracle", "pull", "finetune", "evaluate", "simulate", "audit"})
FIRST_HOURS, MOST_HOURS, HOURS_UNKNOWN = 2.0, 200.0, 20.0
"""The slider at first; where it ends at the latest, and where while nobody knows how much is left."""
STEPS = 200
MOST_SEEDS = 10


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._outlook = Outlook(context)

    def look(self, unit: str, amount: float | None, rate: float | None) -> str:
        """What the amount buys."""
        return self._outlook.say(_seconds(unit, amount, rate), _rate(rate))

    def draw(self, unit: str, amount: float | None, rate: float | None) -> str:
        """The learning curve up to where the amount leads."""
        return self._outlook.picture(_seconds(unit, amount, rate), _rate(rate))

    def switch(self, unit: str, amount: float | None, rate: float | None) -> tuple[Any, str]:
        """The slider in the other unit, at the same budget, and what that buys."""
        per_hour = _rate(rate)
        now = (amount or 0.0) * per_hour if unit == MONEY else (amount or 0.0) / per_hour
        return self._moved(self._slider(unit, now, per_hour), unit, per_hour)

    def reprice(self, unit: str, amount: float | None, rate: float | None) -> tuple[Any, str]:
        """The slider where an hour costs something else, and what it buys then."""
        per_hour = _rate(rate)
        return self._moved(self._slider(unit, amount or 0.0, per_hour), unit, per_hour)

    def choose(self, unit: str, amount: float | None, rate: float | None, strategy: str, wanted: Sequence[str], fall_back: bool) -> str:
        """Queue the choice of tiles for the budget, by what the newest detector sees now."""
        seconds, per_hour = _seconds(unit, amount, rate), _rate(rate)
        if wanted and strategy != BY_CLASSES:
            raise UsageError(
                f"wanted classes and the strategy {strategy}",
                expected=f"the strategy {BY_CLASSES}, the only one that weighs classes",
                remedy=f"Choose by {BY_CLASSES}, or take the classes out",
            )
        spent = {"budget_money": float(amount or 0.0)} if unit == MONEY else {"budget_seconds": seconds}
        prices = {"hourly_rate": per_hour, "currency": self._context.settings.currency}
        config = {**spent, **prices, "strategy": strategy, "fall_back": fall_back, **({"wanted_classes": list(wanted)} if wanted else {})}
        self._context.jobs.enqueue("round", {**config, "annotate": "browser"})
        return text.done("The choice is queued: the newest detector looks at the tiles first, then those it chose appear below.")

    def weigh(self, strategy: str) -> Any:
        """The wanted classes, where the strategy weighs classes; else out of sight, and none."""
        return gr.update(visible=True) if strategy == BY_CLASSES else gr.update(visible=False, value=[])

    def simulate(self, strategies: Sequence[str], seeds: float | None) -> str:
        """Queue a replay of budgets on the labels that are there."""
        if not strategies:
            raise UsageError("no strategy", expected="one at least, beside random", remedy="Tick what is to be held against chance")
        if not seeds or not 1 <= seeds <= MOST_SEEDS:
            raise UsageError(f"{seeds or 0:g} seeds", expected=f"1 to {MOST_SEEDS}; intervals need two")
        self._context.jobs.enqueue("simulate", {"strategies": list(strategies), "seeds": list(range(int(seeds)))})
        return text.done("The simulation is queued; it goes on where it was when it is asked for again.")

    def audit(self) -> str:
        """Queue a look at what the newest detector disagrees with."""
        self._context.jobs.enqueue("audit", {})
        return text.done("The audit is queued: doubtful labels appear below and on the page Review.")

    def refresh(self, unit: str, amount: float | None, rate: float | None) -> tuple[Any, ...]:
        """Everything that the workspace says, read anew; a new round is shown at once."""
        self._outlook.renew()
        per_hour = rate if rate and rate > 0 else self._context.settings.hourly_rate
        slider, outlook = self._moved(self._slider(unit, amount or 0.0, per_hour), unit, per_hour)
        with self._context.workspace.session(write=False) as session:
            known = [row.number for row in rounds(session)]
        number = known[-1] if known else None
        classes = workspace_classes(self._context)
        return (
            slider,
            outlook,
            gr.update(choices=list(classes.names) if classes else []),
            gr.update(choices=list(reversed(known)), value=number),
            *self.show(number),
            rounds_table(self._context),
            strategies_table(self._context),
            doubtful_labels(self._context),
        )

    def show(self, number: int | None) -> tuple[str, str]:
        """The tiles of a round as cards, and on the maps."""
        return round_cards(self._context, number), maps(self._context, number)

    def hold(self) -> str:
        """Foretold against measured seconds."""
        return foretold_against_measured(self._context)

    def _moved(self, slider: Any, unit: str, per_hour: float) -> tuple[Any, str]:
        """The slider, and what the amount buys at which it stands now."""
        return slider, self.look(unit, slider["value"], per_hour)

    def _slider(self, unit: str, amount: float, per_hour: float) -> Any:
        """From one step to what all that is left costs, as far as that is known and can be aimed at with a slider."""
        left = self._outlook.hours_left(per_hour)
        hours = HOURS_UNKNOWN if left is None else min(left, MOST_HOURS)
        most = hours * per_hour if unit == MONEY else hours
        step = 10.0 ** math.floor(math.log10(most / STEPS))
        step *= next(times for times in (1, 2, 5, 10) if times * step >= most / STEPS)
        most = math.ceil(most / step) * step
        label = f"Budget in {self._context.settings.currency}" if unit == MONEY else "Budget in hours of annotators"
        value = round(round(min(max(amount, step), most) / step) * step, 6)
        return gr.update(minimum=step, maximum=most, step=step, value=value, label=label)


def _rate(rate: float | None) -> float:
    if not rate or not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"an hour that costs {rate or 0:g}", expected="more than 0", remedy="Say what an annotator's hour costs")
    return float(rate)


def _seconds(unit: str, amount: float | None, rate: float | None) -> float:
    if not amount or not (math.isfinite(amount) and amount > 0):
        raise UsageError(f"a budget of {amount or 0:g}", expected="more than 0", remedy="Say what may be spent")
    return float(amount) / _rate(rate) * HOUR if unit == MONEY else float(amount) * HOUR


def _choice() -> tuple[gr.Dropdown, gr.Dropdown, gr.Checkbox, gr.Button]:
    """By which strategy tiles are chosen, for which classes above others, whether chance may step in, and the button."""
    with gr.Row():
        strategy = gr.Dropdown(STRATEGIES, value=BY_CLASSES, label="Tiles are chosen by", elem_id="strategy")
        wanted = gr.Dropdown([], multiselect=True, label="Classes wanted above others", interactive=True, elem_id="wanted")
    said = "Draw a round at random where choosing did not beat chance twice in a row"
    fall_back = gr.Checkbox(True, label=said, elem_id="fall-back", container=False)
    return strategy, wanted, fall_back, gr.Button("Choose tiles", variant="primary", elem_id="choose")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Budget")
    news = gr.HTML(elem_id="news")
    with gr.Row():
        with gr.Column():
            with gr.Row():
                unit = gr.Radio([HOURS, MONEY], value=HOURS, label="Counted in", elem_id="unit", min_width=160)
                rate = gr.Number(
                    context.settings.hourly_rate,
                    label=f"An annotator's hour costs, in {context.settings.currency}",
                    minimum=0.01,
                    elem_id="rate",
                    min_width=160,
                )
            amount = gr.Slider(0.1, HOURS_UNKNOWN, FIRST_HOURS, step=0.1, label="Budget in hours of annotators", elem_id="amount")
            outlook = gr.HTML(elem_id="outlook")
            strategy, wanted, fall_back, choose = _choice()
        with gr.Column():
            curve = gr.HTML(elem_id="forecast-curve")
    jobs_here = gr.Column()
    gr.Markdown("## The chosen tiles")
    with gr.Row():
        number = gr.Dropdown([], label="Round", interactive=True, elem_id="round", scale=0, min_width=220)
    cards = gr.HTML(elem_id="round-tiles")
    gr.Markdown("## Where the money went")
    ground = gr.HTML(elem_id="maps")
    history = gr.HTML(elem_id="rounds")
    held = gr.HTML(elem_id="costs")
    with gr.Row():
        with gr.Column():
            gr.Markdown("## Which strategy fits my imagery?")
            others = [name for name in STRATEGIES if name != CONTROL]
            strategies = gr.CheckboxGroup(others, value=others[:2], label="Held against random", elem_id="strategies")
            seeds = gr.Number(3, label="Replays of each", precision=0, minimum=1, maximum=MOST_SEEDS, elem_id="seeds")
            simulate = gr.Button("Replay budgets on my labels", elem_id="simulate")
            replayed = gr.HTML(elem_id="simulation")
        with gr.Column():
            gr.Markdown("## Are my labels right?")
            audit = gr.Button("Check my labels", elem_id="audit")
            doubtful = gr.HTML(elem_id="doubtful")
    budget, page = [unit, amount, rate], [amount, outlook, wanted, number, cards, ground, history, replayed, doubtful]
    with jobs_here:
        follow(context, blocks, verbs=VERBS_SHOWN, refresh=actions.refresh, inputs=budget, outputs=page, preprocess=False)
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    for event, answer, filled in (
        (amount.input, actions.look, [outlook]),
        (unit.input, actions.switch, [amount, outlook]),
        (rate.submit, actions.reprice, [amount, outlook]),
        (rate.blur, actions.reprice, [amount, outlook]),
        (outlook.change, actions.draw, [curve]),
    ):
        listener = context.answer(answer, outputs=len(filled))
        event(listener, inputs=budget, outputs=filled, preprocess=False, trigger_mode="always_last", **quiet)
    history.change(context.answer(actions.hold, outputs=1), outputs=held, **quiet)
    strategy.input(actions.weigh, inputs=strategy, outputs=wanted, **quiet)
    number.input(actions.show, inputs=number, outputs=[cards, ground], **quiet)
    asked_for: list[tuple[gr.Button, Callable[..., str], list[Any], Role]] = [
        (choose, actions.choose, [*budget, strategy, wanted, fall_back], "manager"),
        (simulate, actions.simulate, [strategies, seeds], "engineer"),
        (audit, actions.audit, [], "manager"),
    ]
    for button, action, given, needs in asked_for:
        asked = context.answer(action, outputs=1, changes=True, needs=needs)
        button.click(asked, inputs=given, outputs=news, preprocess=False, api_visibility="private")

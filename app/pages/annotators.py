"""The annotators page: the connection to a Label Studio server, tiles out, answers in, and what waits for somebody to mend it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import gradio as gr
from sqlalchemy import select

from app.backend import backend_address, register
from app.pages import text
from app.pages.context import PageContext
from app.pages.jobs import follow
from app.signing import ML_BACKEND_USER, ml_backend_secret, webhook_secret
from engine.catalog import remote
from engine.catalog.schema import RemoteTask
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.stages.push import PushPlan

__all__ = ["PICTURES", "SEVERAL", "Actions", "add"]

SEVERAL = {
    "as before": None,
    "the newest answer": "latest",
    "boxes that more than half of them drew": "majority",
    "all boxes": "all",
}
"""What of several people's answers is taken, in words."""
PICTURES = {"this app": "signed", "an upload into Label Studio": "upload", "a folder that Label Studio serves": "local-files"}
"""Where the labelling page gets its pictures from, in words."""
HELD_SHOWN = 50


class Actions:
    """What the page does."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def status(self) -> tuple[str, str]:
        """The server that is connected with what is out there and what came back, and the answers that are held back."""
        from app.connections import Connections

        connected = Connections.load(self._context.workspace).label_studio
        if connected is None:
            return text.note("No server is connected."), ""
        with self._context.workspace.session(write=False) as session:
            states = Counter(session.scalars(select(RemoteTask.state)))
            agreement, held, policy = remote.agreement(session), remote.held(session), remote.policy(session)
        numbers: dict[str, Any] = {
            "tiles sent": sum(states.values()),
            "answers taken in": states[remote.ANNOTATED],
            "wait for an annotator": states[remote.PUSHED],
            "held back": states[remote.HELD],
        }
        if agreement is not None:
            numbers["tiles that several people answered"] = agreement.tiles
            numbers["how far they agree (mean F1 of pairs)"] = f"{agreement.f1:.2f}"
        place = {
            "Server": connected.url,
            "Pictures by": connected.public_url,
            "Of several answers": next(words for words, several in SEVERAL.items() if several == policy.several),
        }
        if self._context.allows("engineer"):
            place |= self._proofs(connected.public_url)
        return text.figures(numbers) + text.definitions(place), held_answers(held)

    def _proofs(self, public_url: str) -> dict[str, str]:
        """Where the server may ask this app for something, and the secrets by which it proves itself."""
        return {
            "Its webhook, if you want answers at once": f"{public_url}/webhooks/label-studio",
            "with the header X-Tilehawk-Secret": webhook_secret(self._context.workspace),
            "Its model, for suggestions while people draw": backend_address(public_url),
            "with Basic authentication as": ML_BACKEND_USER,
            "and the password": ml_backend_secret(self._context.workspace),
        }

    def offer_suggestions(self) -> str:
        """Enter this app as the machine learning backend of the newest project there."""
        entered = register(self._context.workspace)
        return text.done(f"Project {entered.project} there asks {entered.backend} for suggestions now.")

    def connect(self, url: str, token: str, public_url: str) -> tuple[Any, ...]:
        """Try the token, and keep it if the server knows it."""
        from app.connections import connect_label_studio

        reached_at = public_url.strip() or self._context.settings.public_url
        connected = connect_label_studio(self._context.workspace, url.strip(), token.strip(), public_url=reached_at)
        return "", *self.status(), text.done(f"Connected as {connected.user}.")

    def plan(self, annotators: float | None, pictures: str, folder: str) -> tuple[str, str]:
        """What sending the newest round would change."""
        from app.workflows.dry_run import what_would_be_pushed
        from engine.stages.push import PushConfig

        plan = what_would_be_pushed(self._context.workspace, PushConfig.from_mapping(push_settings(annotators, pictures, folder)))
        return planned(plan), text.done("Nothing was sent or changed: this is what sending would do.")

    def push(self, annotators: float | None, pictures: str, folder: str) -> tuple[str, str]:
        """Queue the sending of the newest round; what was planned is shown no more."""
        self._context.jobs.enqueue("push", push_settings(annotators, pictures, folder))
        return "", text.done("Sending is queued.")

    def pull(self, several: str) -> str:
        """Queue the taking in of answers."""
        chosen = SEVERAL[several]
        self._context.jobs.enqueue("pull", {"several": chosen} if chosen else {}, once=True)
        return text.done("Taking answers in is queued.")

    def pull_all(self, several: str) -> str:
        """Queue a look at every task there is."""
        chosen = SEVERAL[several]
        self._context.jobs.enqueue("pull", {"full": True, **({"several": chosen} if chosen else {})}, once=True)
        return text.done("Looking at every task is queued: afterwards the workspace says what the server says.")


def push_settings(annotators: float | None, pictures: str, folder: str) -> dict[str, Any]:
    """The configuration of a push; what is as usual is left out.

    Raises:
        UsageError: pictures from a folder, and none is named.
    """
    settings: dict[str, Any] = {"annotators": int(annotators)} if annotators and annotators > 1 else {}
    if PICTURES[pictures] == "signed":
        return settings
    settings["images"] = PICTURES[pictures]
    if PICTURES[pictures] == "local-files":
        if not folder.strip():
            raise UsageError(
                "pictures from a folder, and none is named",
                expected="the folder that Label Studio serves, as this machine sees it",
                remedy="Fill in the folder",
            )
        settings["local_root"] = folder.strip()
    return settings


def planned(plan: PushPlan) -> str:
    """A plan as a card: the project, the differences, and what stands in the way."""
    where = f"project {plan.project}, {plan.title}" if plan.project is not None else f"a new project, {plan.title}"
    differences = {
        "to add": plan.add,
        "to update": plan.update,
        "there just so": plan.unchanged,
        "there, and not written down here": plan.found,
        "doubles to remove": plan.doubles,
        "deleted over there": plan.gone,
        "reviewed, so not sent": plan.reviewed,
        "boxes shown": plan.boxes,
    }
    matches = "" if plan.project is None else text.note("Its labelling interface has the workspace's classes.")
    refused = "".join(text.card("It would be refused", text.note(problem), kind="problem") for problem in plan.problems)
    return text.card(f"Round {plan.round} to {where}", text.figures(differences) + (refused or matches), kind="note")


def held_answers(held: list[remote.HeldTask]) -> str:
    """Answers that wait for somebody to mend them over there, with links to their tiles."""
    if not held:
        return ""
    rows = [
        (text.link(f"/review?tile={each.tile}", f"tile {each.tile}"), f"project {each.project}, task {each.task}", " · ".join(each.reasons))
        for each in held[:HELD_SHOWN]
    ]
    more = text.note(f"And {len(held) - HELD_SHOWN} more.") if len(held) > HELD_SHOWN else ""
    words = text.note("These answers are not taken in, and their tiles stay open, until somebody mends them in Label Studio.")
    return text.card("Held back", words + text.table(["Tile", "Over there", "Why"], rows) + more, kind="readonly")


def add(context: PageContext, blocks: gr.Blocks) -> None:
    """Fill the page that is being built."""
    actions = Actions(context)
    gr.Markdown("# Annotators")
    news = gr.HTML(elem_id="news")
    state = gr.HTML(elem_id="connection")
    with gr.Accordion("Connect a Label Studio server", open=False):
        url = gr.Textbox(label="Its address", placeholder="http://127.0.0.1:8080", elem_id="server-url")
        token = gr.Textbox(label="Access token (Account & Settings)", type="password", elem_id="server-token")
        public = gr.Textbox(
            label="Address under which annotators' browsers reach this app", placeholder="http://127.0.0.1:7860", elem_id="public-url"
        )
        connect = gr.Button("Connect", elem_id="connect")
    gr.Markdown("## Tiles out")
    with gr.Row():
        annotators = gr.Number(label="People who annotate each tile", value=1, minimum=1, maximum=20, precision=0, elem_id="annotators")
        plan = gr.Button("What would be sent?", elem_id="plan")
        push = gr.Button("Send the newest round", variant="primary", elem_id="push")
    with gr.Accordion("Where its pictures come from", open=False), gr.Row():
        pictures = gr.Dropdown(list(PICTURES), value="this app", label="Annotators' browsers load tiles from", elem_id="pictures-from")
        folder = gr.Textbox(label="That folder, if Label Studio serves one", placeholder="/srv/pictures", elem_id="pictures-folder")
    plan_shown = gr.HTML(elem_id="planned")
    gr.Markdown("## Answers in")
    with gr.Row():
        several = gr.Dropdown(list(SEVERAL), value="as before", label="Where several people answered, take", elem_id="several")
        pull = gr.Button("Take answers in", variant="primary", elem_id="pull")
        pull_all = gr.Button("Look at every task again", elem_id="pull-all")
    offer = gr.Button("Offer suggestions while people draw", elem_id="offer-suggestions")
    jobs_here = gr.Column()
    held = gr.HTML(elem_id="held")
    quiet: dict[str, Any] = {"api_visibility": "private"}
    with jobs_here:
        follow(context, blocks, verbs={"push", "pull"}, refresh=actions.status, outputs=[state, held])
    asked = context.answer(actions.connect, outputs=4, changes=True, needs="engineer")
    connect.click(asked, inputs=[url, token, public], outputs=[token, state, held, news], **quiet)
    sent = {"inputs": [annotators, pictures, folder], "outputs": [plan_shown, news]}
    plan.click(context.answer(actions.plan, outputs=2, needs="engineer"), **sent, **quiet)
    push.click(context.answer(actions.push, outputs=2, changes=True, needs="engineer"), **sent, **quiet)
    pull.click(context.answer(actions.pull, outputs=1, changes=True, needs="engineer"), inputs=[several], outputs=news, **quiet)
    offer.click(context.answer(actions.offer_suggestions, outputs=1, changes=True, needs="engineer"), inputs=None, outputs=news, **quiet)
    pull_all.click(context.answer(actions.pull_all, outputs=1, changes=True, needs="engineer"), inputs=[several], outputs=news, **quiet)

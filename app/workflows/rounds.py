"""The flows of a round, step by step; each step is kept, so that a flow whose worker died goes on at the step it was in."""

from __future__ import annotations

from typing import Any, Literal

from app.cli.output import as_document
from app.workflows.verbs import Steps, verb_named
from engine.catalog.costs import stored_cost
from engine.catalog.counterfactual import stored_fall_back
from engine.catalog.models import models
from engine.catalog.rounds import get_round, round_tiles, rounds, stored_left_out, stored_why_cold
from engine.catalog.schema import PredictionSet
from engine.catalog.tiles import tiles
from engine.catalog.workspace import Workspace
from engine.config import StageConfig
from engine.errors import NothingToDo
from engine.progress import Progress
from engine.stages.evaluate import EvaluateConfig
from engine.stages.evaluate import evaluate as run_evaluate
from engine.stages.finetune import FinetuneConfig
from engine.stages.finetune import finetune as run_finetune
from engine.stages.oracle import OracleConfig, consult_oracle
from engine.stages.predict import PredictConfig
from engine.stages.predict import predict as run_predict
from engine.stages.rank import RankConfig, RankedWindow, RankReport, SpendingConfig
from engine.stages.rank import rank as run_rank

__all__ = ["RetrainConfig", "RoundConfig", "rank_once", "retrain", "run_round"]


class RetrainConfig(StageConfig):
    """How a detector is made from everything that has been answered, and measured."""

    finetune: FinetuneConfig = FinetuneConfig()
    """The training."""
    predict: PredictConfig = PredictConfig()
    """The look at test ground; its model and its split are the flow's to say."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """The measurement; its model, split and predictions are the flow's to say."""


class RoundConfig(SpendingConfig):
    """A whole round: how its tiles are chosen, who annotates them, and what follows."""

    annotate: Literal["oracle", "browser", "label-studio"] = "browser"
    """oracle: withheld labels answer at once and the detector is trained anew; browser: people open the tiles here; label-studio: they are
    sent to the connected server."""
    oracle: OracleConfig = OracleConfig()
    """The oracle, where it annotates; its round is the flow's to say."""
    predict: PredictConfig = PredictConfig()
    """The look at training ground before the choice; its model and its split are the flow's to say."""
    retrain: RetrainConfig = RetrainConfig()
    """What follows the oracle."""


def run_round(steps: Steps, config: RoundConfig) -> dict[str, Any]:
    """Predict, rank, and hand the tiles to those who annotate; with the oracle also retrain."""
    workspace = steps.workspace
    model = steps("choosing the model", lambda _: _newest_model(workspace))
    report: dict[str, Any] = {"round": None, "annotate": config.annotate, "predict": None}
    if model is not None:
        look = config.predict.model_copy(update={"model": model, "split": "train", "name": None})
        report["predict"] = steps("predict", lambda progress: run_predict(workspace, look, progress=progress))
    chosen = {name: getattr(config, name) for name in SpendingConfig.model_fields if name in config.model_fields_set}
    if model is not None:
        chosen["predictions"] = report["predict"]["predictions"]
    report["rank"] = rank_once(steps, RankConfig(**chosen))
    number = report["round"] = report["rank"]["round"]
    if config.annotate == "oracle":
        asked = config.oracle.model_copy(update={"round": number})
        report["oracle"] = steps("oracle", lambda progress: consult_oracle(workspace, asked, progress=progress))
        report["retrain"] = retrain(steps, config.retrain)
    if config.annotate == "label-studio":
        push = verb_named("push")
        report["push"] = push.run(steps, push.config_class.from_mapping({"round": number}), {})
    return report


def retrain(steps: Steps, config: RetrainConfig) -> dict[str, Any]:
    """Take answers in, fine-tune on all that is reviewed, and measure on test ground where some of it is reviewed."""
    workspace = steps.workspace
    report: dict[str, Any] = {}
    if steps("looking for a server", lambda _: _is_connected(workspace)):
        report["pull"] = steps("pull", lambda progress: _pull(workspace, progress))
    report["finetune"] = steps("finetune", lambda progress: run_finetune(workspace, config.finetune, progress=progress))
    if not steps("looking for test tiles", lambda _: _reviewed_test_tiles(workspace)):
        report["evaluate"] = {"skipped": "no test tile is reviewed: label some of that ground to measure the detector"}
        return report
    model = report["finetune"]["model"]
    look = config.predict.model_copy(update={"model": model, "split": "test", "name": None})
    seen = report["predict"] = steps("predict", lambda progress: run_predict(workspace, look, progress=progress))
    measure = config.evaluate.model_copy(update={"model": model, "split": "test", "predictions": seen["predictions"]})
    report["evaluate"] = steps("evaluate", lambda progress: run_evaluate(workspace, measure, progress=progress))
    return report


def rank_once(steps: Steps, config: RankConfig) -> Any:
    """Open a round; when the worker died after the round was written and before the step was kept, that round is the answer."""
    workspace = steps.workspace
    before = steps("counting rounds", lambda _: _newest_round(workspace))

    def act(progress: Progress) -> RankReport:
        newest = _newest_round(workspace)
        return run_rank(workspace, config, progress=progress) if newest == before else _ranked(workspace, newest)

    return as_document(steps("rank", act))


def _pull(workspace: Workspace, progress: Progress) -> Any:
    """What came in, or that nothing was sent out."""
    pull = verb_named("pull")
    try:
        return pull.call(workspace, pull.config_class(), {}, progress)
    except NothingToDo as nothing:
        return {"skipped": nothing.found}


def _newest_model(workspace: Workspace) -> str | None:
    """The newest detector, else the newest pre-trained model, whose embeddings serve to spread the choice."""
    with workspace.session(write=False) as session:
        known = models(session, stage="finetune") or models(session)
        return known[-1].name if known else None


def _newest_round(workspace: Workspace) -> int:
    with workspace.session(write=False) as session:
        return max((row.number for row in rounds(session)), default=0)


def _reviewed_test_tiles(workspace: Workspace) -> int:
    with workspace.session(write=False) as session:
        return len(tiles(session, split="test", reviewed=True))


def _is_connected(workspace: Workspace) -> bool:
    from app.connections import Connections

    return Connections.load(workspace).label_studio is not None


def _ranked(workspace: Workspace, number: int) -> RankReport:
    """The report of a round as it stands in the catalog."""
    with workspace.session(write=False) as session:
        row = get_round(session, number)
        links, cost, fell_back, left_out = round_tiles(session, row), stored_cost(row), stored_fall_back(row), stored_left_out(row)
        used = None if row.prediction_set_id is None else session.get_one(PredictionSet, row.prediction_set_id).name
        records = {tile.id: tile for tile in tiles(session, ids=[link.tile_id for link in links])}
    assert cost is not None, "rank keeps it with every round"
    windows = []
    for link in links:
        tile = records[link.tile_id]
        reasons = {key: value for key, value in link.reasons.items() if key != "why"}
        place = (tile.window.x, tile.window.y, tile.window.width, tile.window.height)
        windows.append(RankedWindow(tile.id, tile.scene_name, *place, link.score, link.estimated_seconds, link.reasons["why"], reasons))
    head = (row.number, row.strategy, row.budget_seconds, row.estimated_seconds, used, cost, fell_back)
    return RankReport(*head, tuple(windows), left_out, stored_why_cold(row))

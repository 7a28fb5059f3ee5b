"""Everything that can be a job: the stages by their verb, and the flows that string stages together.

Nothing heavy is imported before a verb is used: configurations and functions are named as ``module:name``.
"""

from __future__ import annotations

import difflib
import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from app.workflows.tidy import remove_upload
from engine.config import StageConfig
from engine.errors import UsageError
from engine.progress import Progress

if TYPE_CHECKING:
    from engine.catalog.workspace import Workspace

__all__ = ["VERBS", "DirectSteps", "Steps", "Verb", "load_all", "verb_named"]


class Steps(Protocol):
    """How a flow takes its steps: each is run once and its result kept, so that a flow that is run again goes on where it was."""

    @property
    def workspace(self) -> Workspace:
        """What the steps work on."""

    def __call__(self, name: str, act: Callable[[Progress], Any]) -> Any:
        """The result of ``act``, or of an earlier run of the step; JSON-ready in both cases, if it is to be kept."""


class DirectSteps:
    """Steps of a call that remembers nothing: the stage's own result, at once."""

    def __init__(self, workspace: Workspace, progress: Progress) -> None:
        self.workspace = workspace
        self._progress = progress

    def __call__(self, name: str, act: Callable[[Progress], Any]) -> Any:  # noqa: ARG002 - part of the protocol
        """The result of ``act``."""
        return act(self._progress)


def _nothing(_workspace: Workspace, _inputs: Mapping[str, str]) -> tuple[Any, ...]:
    return ()


def _source(_workspace: Workspace, inputs: Mapping[str, str]) -> tuple[Any, ...]:
    return (Path(inputs["source"]),)


def _label_file(_workspace: Workspace, inputs: Mapping[str, str]) -> tuple[Any, ...]:
    return (Path(inputs["file"]),)


def _server(workspace: Workspace, _inputs: Mapping[str, str]) -> tuple[Any, ...]:
    from app.wiring import annotation_server

    return (annotation_server(workspace),)


def _server_and_pictures(workspace: Workspace, inputs: Mapping[str, str]) -> tuple[Any, ...]:
    from app.connections import Connections
    from app.signing import Signer

    server = _server(workspace, inputs)
    connection = Connections.load(workspace).label_studio
    assert connection is not None, "annotation_server refuses where none is connected"
    return (*server, partial(Signer.of(workspace).tile_url, connection.public_url))


@dataclass(frozen=True)
class Verb:
    """Something that can be a job.

    Args:
        name: as it is typed.
        config: its configuration, as ``module:class``.
        function: a stage ``(workspace, *given, config, *, progress)``, or where ``flow`` a function ``(steps, config)``.
        inputs: names of the paths that it needs beside its configuration.
        given: what the stage gets between workspace and configuration.
        flow: whether it takes steps of its own.
        takes_in: the input that is not needed any more once all of it is taken in, where it came in through the pages.
    """

    name: str
    config: str
    function: str
    inputs: tuple[str, ...] = ()
    given: Callable[[Workspace, Mapping[str, str]], tuple[Any, ...]] = _nothing
    flow: bool = False
    takes_in: str | None = None

    @property
    def config_class(self) -> type[StageConfig]:
        """The class of its configuration."""
        found = _imported(self.config)
        assert isinstance(found, type)
        assert issubclass(found, StageConfig)
        return found

    def checked(self, config: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Configuration and inputs, JSON-ready and with absolute paths; what is left to its default stays out.

        Raises:
            UsageError: an unknown key, an impossible value, an input that is missing or that the verb does not know.
        """
        chosen = self.config_class.from_mapping(config)
        if set(inputs) != set(self.inputs):
            raise UsageError(f"{self.name} with the inputs {sorted(inputs)}", expected=f"{sorted(self.inputs)}")
        paths = {name: str(Path(value).absolute()) for name, value in inputs.items()}
        return chosen.model_dump(mode="json", exclude_unset=True), paths

    def run(self, steps: Steps, config: StageConfig, inputs: Mapping[str, str]) -> Any:
        """Run it; returns its report."""
        if self.flow:
            return _imported(self.function)(steps, config)
        report = steps(self.name, lambda progress: self.call(steps.workspace, config, inputs, progress))
        if self.takes_in is not None and not _left_out(report):
            remove_upload(steps.workspace, Path(inputs[self.takes_in]))
        return report

    def call(self, workspace: Workspace, config: StageConfig, inputs: Mapping[str, str], progress: Progress) -> Any:
        """Call the stage; a flow cannot be called."""
        return _imported(self.function)(workspace, *self.given(workspace, inputs), config, progress=progress)


def _left_out(report: Any) -> bool:
    """Whether a report, as the stage or the job store has it, names something that was set aside and may be asked for again."""
    return bool(report.get("set_aside") if isinstance(report, Mapping) else getattr(report, "set_aside", None))


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


_ALL = (
    Verb("ingest", "engine.stages.ingest:IngestConfig", "engine.stages.ingest:ingest", ("source",), _source, takes_in="source"),
    Verb(
        "labels-import",
        "app.workflows.labels:LabelImportConfig",
        "app.workflows.labels:import_label_file",
        ("file",),
        _label_file,
        takes_in="file",
    ),
    Verb("pretrain", "engine.stages.pretrain:PretrainConfig", "engine.stages.pretrain:pretrain"),
    Verb("finetune", "engine.stages.finetune:FinetuneConfig", "engine.stages.finetune:finetune"),
    Verb("one-shot", "engine.stages.one_shot:OneShotTrainingConfig", "engine.stages.one_shot:one_shot"),
    Verb("predict", "engine.stages.predict:PredictConfig", "engine.stages.predict:predict"),
    Verb("rank", "engine.stages.rank:RankConfig", "app.workflows.rounds:rank_once", flow=True),
    Verb("oracle", "engine.stages.oracle:OracleConfig", "engine.stages.oracle:consult_oracle"),
    Verb("evaluate", "engine.stages.evaluate:EvaluateConfig", "engine.stages.evaluate_one_shot:evaluate_model"),
    Verb("audit", "engine.stages.audit:AuditConfig", "engine.stages.audit:audit"),
    Verb("simulate", "engine.stages.simulate:SimulateConfig", "engine.stages.simulate:simulate"),
    Verb("export", "engine.stages.export:ExportConfig", "engine.stages.export:export"),
    Verb("layers", "app.workflows.layers:LayersConfig", "app.workflows.layers:write_scene_layers"),
    Verb("search", "engine.stages.search:SearchConfig", "engine.stages.search:search"),
    Verb("push", "engine.stages.push:PushConfig", "engine.stages.push:push", given=_server_and_pictures),
    Verb("pull", "engine.stages.pull:PullConfig", "engine.stages.pull:pull", given=_server),
    Verb("round", "app.workflows.rounds:RoundConfig", "app.workflows.rounds:run_round", flow=True),
    Verb("retrain", "app.workflows.rounds:RetrainConfig", "app.workflows.rounds:retrain", flow=True),
)
VERBS: Mapping[str, Verb] = MappingProxyType({verb.name: verb for verb in _ALL})
"""Every kind of job by its name."""


def load_all(stop: threading.Event | None = None) -> None:
    """Import what the verbs need, several seconds' worth, so that a job is queued and starts at once; ``stop`` ends it early."""
    for verb in VERBS.values():
        for name in (verb.config, verb.function):
            if stop is not None and stop.is_set():
                return
            importlib.import_module(name.partition(":")[0])


def verb_named(name: str) -> Verb:
    """The verb of that name.

    Raises:
        UsageError: there is none; the nearest is named.
    """
    if name not in VERBS:
        nearest = difflib.get_close_matches(name, VERBS, n=1)
        raise UsageError(
            f"no job {name!r}", expected=f"one of {', '.join(VERBS)}", remedy=f"Did you mean {nearest[0]!r}?" if nearest else ""
        )
    return VERBS[name]

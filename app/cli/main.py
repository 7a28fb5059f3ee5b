"""The command ``tilehawk``: its groups of commands, and how every error ends."""

from __future__ import annotations

import contextlib
import difflib
import itertools
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from app.cli import annotators, budget, data, delivery, demo, jobs, keeping, labels, machine, models, rounds, search, training, users
from app.faults import unexpected
from app.settings import find_workspace, prepare_environment
from engine.errors import Cancelled, TilehawkError, UsageError

__all__ = ["build", "run"]


class CommandGroup(TyperGroup):
    """Commands of which an unknown one is answered with the nearest."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that ``args`` begins with.

        Raises:
            UsageError: there is none of that name.
        """
        if args and self.get_command(ctx, args[0]) is None:
            raise _unknown("command", args[0], list(self.commands), ctx.command_path)
        return super().resolve_command(ctx, args)


def build() -> typer.Typer:
    """The whole command line."""
    app = typer.Typer(
        name="tilehawk",
        cls=CommandGroup,
        help="The best detector on aerial imagery that an annotation budget can buy.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    labelled = typer.Typer(cls=CommandGroup, help="Labels in and out.", rich_markup_mode=None)
    data.add_to(app)
    labels.add_to(labelled)
    app.add_typer(labelled, name="labels")
    training.add_to(app)
    trained = typer.Typer(cls=CommandGroup, help="Models, and weights to start them from.", rich_markup_mode=None)
    models.add_to(trained)
    app.add_typer(trained, name="models")
    rounds.add_to(app)
    budget.add_to(app)
    searched = typer.Typer(cls=CommandGroup, rich_markup_mode=None)
    search.add_to(searched)
    app.add_typer(searched, name="search")
    connect = typer.Typer(cls=CommandGroup, help="Annotation servers.", rich_markup_mode=None)
    annotators.add_to(app, connect)
    app.add_typer(connect, name="connect")
    delivery.add_to(app)
    machine.add_to(app)
    keeping.add_to(app)
    accounts = typer.Typer(cls=CommandGroup, help="Who may log in.", rich_markup_mode=None)
    users.add_to(accounts)
    app.add_typer(accounts, name="users")
    demo.add_to(app)
    managed = typer.Typer(cls=CommandGroup, help="Jobs: list, follow, cancel, resume.", rich_markup_mode=None)
    jobs.add_to(app, managed)
    app.add_typer(managed, name="jobs")
    return app


def run(arguments: Sequence[str] | None = None, *, application: Callable[[], typer.Typer] = build) -> int:
    """Run one command line; returns its exit code. Every error ends here, as three lines or one JSON document.

    Args:
        arguments: what was typed after ``tilehawk``; None for the process's own.
        application: makes the commands.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    prepare_environment()
    with _terminable():
        try:
            code = typer.main.get_command(application()).main(args=list(arguments), prog_name="tilehawk", standalone_mode=False)
            sys.stdout.flush()
        except TilehawkError as error:
            return _report(error, as_json="--json" in arguments)
        except (KeyboardInterrupt, typer.Abort):
            return _report(Cancelled("stopped by the user"), as_json="--json" in arguments)
        except typer.TyperException as error:
            return _report(_usage_error(error), as_json="--json" in arguments)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except Exception:  # noqa: BLE001 - the last resort: nothing goes on, and the traceback is kept
            return _report(_unexpected(arguments), as_json="--json" in arguments)
    return code if isinstance(code, int) else 0


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end a call the way Ctrl-C does."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _unknown(kind: str, name: str, known: Sequence[str], command_path: str) -> UsageError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return UsageError(
        f"unknown {kind} {name!r} of {command_path}",
        expected=f"one of {', '.join(known)}",
        remedy=f"Did you mean {nearest[0]!r}?" if nearest else f"See: {command_path} --help",
    )


def _usage_error(error: typer.TyperException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tilehawk"
    option = getattr(error, "option_name", None)
    if option is not None and context is not None and "such option" in error.format_message():
        known = [name for parameter in context.command.get_params(context) for name in parameter.opts if name.startswith("--")]
        return _unknown("option", option, known, path)
    return UsageError(f"{path}: {error.format_message()}", remedy=f"See: {path} --help")


def _unexpected(arguments: Sequence[str]) -> TilehawkError:
    """What to say of the exception being handled; its traceback goes to the workspace of the call, where there is one."""
    named = next((Path(value) for option, value in itertools.pairwise(arguments) if option == "--workspace"), None)
    reports = find_workspace(named) / "reports"
    return unexpected(reports) if reports.is_dir() else unexpected(Path(tempfile.gettempdir()), prefix="tilehawk-")


def _report(error: TilehawkError, *, as_json: bool) -> int:
    if as_json:
        sys.stdout.write(json.dumps(error.as_json(), indent=2, ensure_ascii=False) + "\n")
        sys.stdout.flush()
        return error.exit_code
    lines = [f"error: {error.found}"]
    if error.expected:
        lines.append(f"expected: {error.expected}")
    if error.remedy:
        lines.append(f"do: {error.remedy}")
    sys.stderr.write("\n".join(lines) + "\n")
    return error.exit_code


if __name__ == "__main__":
    sys.exit(run())

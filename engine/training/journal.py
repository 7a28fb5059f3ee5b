"""The log of a run: one line of CSV a step, the same for TensorBoard on request, and the line that a user sees meanwhile."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

from engine.errors import UsageError
from engine.files import write_text

__all__ = ["LOG_NAME", "Clock", "Journal", "TensorBoard", "read_log", "tensorboard_writer"]

LOG_NAME = "log.csv"
FORMULA = frozenset("=+-@\t")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*(e[+-]?\d+)?|inf|nan)")
Value = int | float | str


class TensorBoard(Protocol):
    """What of ``torch.utils.tensorboard.SummaryWriter`` is used."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Note a number."""

    def close(self) -> None:
        """Write what is left."""


def tensorboard_writer(folder: Path, step: int) -> TensorBoard:
    """A writer of event files that goes on after ``step``.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as missing:
        raise UsageError(
            "tensorboard = true, but TensorBoard is not installed", remedy="pip install tensorboard, or leave the setting out"
        ) from missing
    writer: TensorBoard = SummaryWriter(str(folder), purge_step=step + 1)
    return writer


class Journal:
    """The log in ``folder``; a context manager. A resumed run goes on after the last line that its checkpoint knows.

    Args:
        folder: where ``log.csv`` goes; None for no log.
        after: steps done already; lines of later ones are dropped.
        tensorboard: gets every number too.
    """

    def __init__(self, folder: Path | None, *, after: int = 0, tensorboard: TensorBoard | None = None) -> None:
        self._path = folder / LOG_NAME if folder else None
        self._tensorboard = tensorboard
        self._columns: list[str] = []
        self._stream: TextIO | None = None
        if self._path:
            kept = [row for row in read_log(self._path) if int(row["step"]) <= after]
            self._columns = list(kept[0]) if kept else []
            self._rewrite(kept)

    def __enter__(self) -> Self:
        """Nothing more is needed."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the files."""
        if self._stream:
            self._stream.close()
        if self._tensorboard:
            self._tensorboard.close()

    def write(self, row: Mapping[str, Value]) -> None:
        """Add a line; ``row`` holds ``step``, and a column that is new to the file is added to it."""
        if self._tensorboard:
            for name, value in row.items():
                if name != "step" and not isinstance(value, str):
                    self._tensorboard.add_scalar(name, value, int(row["step"]))
        if not self._path:
            return
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite(read_log(self._path))
        assert self._stream
        csv.DictWriter(self._stream, self._columns, restval="", lineterminator="\n").writerow(_cells(row))
        self._stream.flush()

    def _rewrite(self, rows: Sequence[Mapping[str, Value]]) -> None:
        assert self._path
        if self._stream:
            self._stream.close()
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if self._columns:
            writer.writeheader()
        writer.writerows(_cells(row) for row in rows)
        write_text(self._path, text.getvalue())
        self._stream = self._path.open("a", newline="")


def _cells(row: Mapping[str, Value]) -> dict[str, Value]:
    """The row for a file that spreadsheets open too: words that they would take for a formula are marked as words."""
    return {name: f"'{value}" if isinstance(value, str) and _is_formula(value) else value for name, value in row.items()}


def _is_formula(words: str) -> bool:
    return words[:1] in FORMULA and not NUMBER.fullmatch(words)


def read_log(path: Path) -> list[dict[str, str]]:
    """The whole lines of a log; one that a crash cut off is none."""
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["step"].isdecimal() and None not in row and None not in row.values()]


class Clock:
    """Speed of a run and the time that is left of it."""

    def __init__(self, seen: int, total: int) -> None:
        self._first, self._total, self._began = seen, total, time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the clock was made."""
        return time.monotonic() - self._began

    def speed(self, seen: int) -> float:
        """Images a second."""
        return (seen - self._first) / max(self.seconds, 1e-9)

    def line(self, seen: int, loss: float, best: float | None) -> str:
        """Loss, dev AP, speed and time left, for the user."""
        speed = self.speed(seen)
        left = (self._total - seen) / max(speed, 1e-9)
        remaining = f"{left / 60:.0f} min" if left >= 120 else f"{left:.0f} s"
        dev = "" if best is None else f", best dev AP {best:.3f}"
        return f"loss {loss:.3f}{dev}, {speed:.1f} images/s, {remaining} left"

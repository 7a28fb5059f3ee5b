"""The log of a run."""

import csv
import sys

import pytest

from engine.errors import UsageError
from engine.training.journal import LOG_NAME, Clock, Journal, tensorboard_writer


def rows(folder):
    with (folder / LOG_NAME).open(newline="") as stream:
        return list(csv.DictReader(stream))


class Writer:
    """The fake of TensorBoard's writer."""

    def __init__(self):
        self.scalars, self.closed = [], False

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars.append((tag, scalar_value, global_step))

    def close(self):
        self.closed = True


def test_every_step_is_a_line_that_is_there_at_once(tmp_path):
    with Journal(tmp_path) as journal:
        for step in (1, 2):
            journal.write({"step": step, "loss": step / 2, "tiles": "3 4"})
            assert rows(tmp_path)[-1] == {"step": str(step), "loss": str(step / 2), "tiles": "3 4"}


def test_a_column_that_comes_later_is_empty_before(tmp_path):
    with Journal(tmp_path) as journal:
        journal.write({"step": 1, "loss": 1.0})
        journal.write({"step": 2, "loss": 2.0, "loss.denoising": 0.5})
        journal.write({"step": 3, "loss": 3.0})
    assert [row["loss.denoising"] for row in rows(tmp_path)] == ["", "0.5", ""]
    assert [row["loss"] for row in rows(tmp_path)] == ["1.0", "2.0", "3.0"]


@pytest.mark.parametrize("torn", ["", "4,", "4"])
def test_a_resumed_run_goes_on_after_its_checkpoint(tmp_path, torn):
    with Journal(tmp_path) as journal:
        for step in (1, 2, 3):
            journal.write({"step": step, "loss": float(step)})
    path = tmp_path / LOG_NAME
    path.write_text(path.read_text() + torn)
    with Journal(tmp_path, after=2) as journal:
        journal.write({"step": 3, "loss": 30.0})
    assert [row["loss"] for row in rows(tmp_path)] == ["1.0", "2.0", "30.0"]


def test_without_a_folder_nothing_is_written(tmp_path):
    with Journal(None) as journal:
        journal.write({"step": 1, "loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_gets_the_numbers(tmp_path):
    writer = Writer()
    with Journal(tmp_path, tensorboard=writer) as journal:
        journal.write({"step": 7, "loss": 1.5, "dev_ap": "", "tiles": "1"})
    assert writer.scalars == [("loss", 1.5, 7)]
    assert writer.closed


def test_tensorboard_that_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match=r"TensorBoard is not installed.*pip install tensorboard"):
        tensorboard_writer(tmp_path, 0)


def test_the_line_says_loss_ap_speed_and_time_left():
    clock = Clock(0, 1000)
    clock._began -= 10
    assert clock.line(100, 1.25, None).startswith("loss 1.250, 1")
    assert clock.line(100, 1.25, 0.4321).startswith("loss 1.250, best dev AP 0.432, ")
    assert clock.line(100, 1.25, None).endswith(" s left")
    assert clock.line(10, 1.25, None).endswith(" min left")


@pytest.mark.guarantee("G34")
@pytest.mark.parametrize("words", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1"])
def test_words_are_no_formula_to_a_spreadsheet_and_numbers_stay_numbers(tmp_path, words):
    with Journal(tmp_path) as journal:
        journal.write({"step": 1, "loss": -0.5, "tiles": words})
        journal.write({"step": 2, "loss": -1e-05, "tiles": "3 4", "more": 1.0})
    first, second = rows(tmp_path)
    assert (first["tiles"], first["loss"], second["loss"]) == (f"'{words}", "-0.5", "-1e-05")

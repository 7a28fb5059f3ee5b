"""What every command line does: answers, errors, exit codes, nearest names, standard output for the answer only."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.cli import main
from app.cli.options import JsonOption


def test_help_lists_every_command(tilehawk):
    shown = tilehawk("--help")
    assert shown.code == 0
    assert shown.err == ""
    for name in typer.main.get_command(main.build()).commands:
        assert f"  {name} " in shown.out


def test_help_imports_nothing_heavy():
    script = (
        "import sys; from app.cli.main import run; run(['--help'])\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'gradio', 'fastapi', 'rasterio', 'matplotlib', 'rich'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "found", "nearest"),
    [
        (["statuss"], "unknown command 'statuss'", "'status'"),
        (["modles"], "unknown command 'modles'", "'models'"),
        (["status", "--worksapce", "x"], "unknown option '--worksapce'", "'--workspace'"),
        (["doctor", "--jsn"], "unknown option '--jsn'", "'--json'"),
    ],
)
def test_unknown_name_is_wrong_use_and_names_the_nearest(tilehawk, arguments, found, nearest):
    typed = tilehawk(*arguments)
    assert typed.code == 2
    assert found in typed.err
    assert f"Did you mean {nearest}?" in typed.err
    assert typed.out == ""


def test_unknown_command_like_no_other_lists_what_there_is(tilehawk):
    typed = tilehawk("qqqqqq")
    assert typed.code == 2
    assert "status" in typed.err
    assert "tilehawk --help" in typed.err


@pytest.mark.parametrize("arguments", [[], ["app", "--port", "many"], ["app", "--port", "0"], ["status", "surplus"]])
def test_wrong_use_ends_with_2_and_no_traceback(tilehawk, arguments):
    typed = tilehawk(*arguments)
    assert typed.code == 2
    assert typed.err.startswith("error: ")
    assert "Traceback" not in typed.err


def test_error_is_three_lines_on_standard_error(tilehawk):
    typed = tilehawk("status")
    assert typed.code == 3
    assert typed.out == ""
    assert [line.split(":")[0] for line in typed.err.splitlines()] == ["error", "expected", "do"]
    assert "tilehawk init" in typed.err


@pytest.mark.parametrize(("arguments", "code"), [(["status", "--json"], 3), (["statuss", "--json"], 2)])
def test_error_with_json_is_one_document_on_standard_output(tilehawk, arguments, code):
    typed = tilehawk(*arguments)
    assert typed.code == typed.document["exit_code"] == code
    assert set(typed.document) == {"error", "found", "expected", "remedy", "exit_code"}
    assert typed.err == ""


def failing(error: BaseException) -> typer.Typer:
    app = typer.Typer(cls=main.CommandGroup, rich_markup_mode=None)

    @app.command()
    def job(as_json: JsonOption = False) -> None:
        raise error

    @app.command()
    def other() -> None:
        pass

    return app


def test_interrupted_command_ends_with_130(tilehawk):
    assert tilehawk("job", application=lambda: failing(KeyboardInterrupt())).code == 130


def test_unexpected_error_is_one_line_and_its_traceback_is_kept(tilehawk, monkeypatch, tmp_path):
    assert tilehawk("init", tmp_path / "workspace").code == 0
    monkeypatch.setenv("TILEHAWK_WORKSPACE", str(tmp_path / "workspace"))
    typed = tilehawk("job", application=lambda: failing(ZeroDivisionError("of the ninth kind")))
    assert typed.code == 1
    assert typed.err.splitlines()[0] == "error: unexpected ZeroDivisionError: of the ninth kind"
    assert "Traceback" not in typed.err
    log = Path(typed.err.split("traceback is in ")[1].strip())
    assert log.is_relative_to(tmp_path / "workspace")
    assert "ZeroDivisionError" in log.read_text()


def test_unexpected_error_outside_a_workspace_is_kept_in_the_temporary_folder(tilehawk, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    typed = tilehawk("job", "--json", application=lambda: failing(ZeroDivisionError()))
    assert typed.code == typed.document["exit_code"] == 1
    assert len(list(tmp_path.glob("tilehawk-error-*.log"))) == 1


LONG_JOB = """
import sys, time, typer
from app.cli.main import run
from app.cli.options import JsonOption
from app.cli.progress import job

app = typer.Typer()

@app.command()
def long(as_json: JsonOption = False) -> None:
    with job() as progress:
        for done in range(6_000):
            progress(done, 6_000, "working")
            print("noise of a library", flush=True)
            time.sleep(0.01)

sys.exit(run(["--json"], application=lambda: app))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_job_with_130_and_one_json_document(tmp_path, number):
    with subprocess.Popen([sys.executable, "-c", LONG_JOB], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert "working" in child.stderr.readline()
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert json.loads(out)["error"] == "Cancelled"
    assert "Traceback" not in err


def test_the_presets_of_the_commands_are_those_of_the_library():
    from app.cli.training import Preset
    from engine.models.presets import PRESETS

    assert [preset.value for preset in Preset] == list(PRESETS)

"""What the pages promise to a reader who clicks and types: links lead somewhere, command lines are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli import reference
from app.cli.main import build
from app.cli.options import configured
from engine.errors import UsageError

ROOT = Path(__file__).parents[2]
ROOMS = ["app", "connectors", "docker", "docs", "engine", "tests"]
PAGES = sorted([*ROOT.glob("*.md"), *(page for room in ROOMS for page in (ROOT / room).rglob("*.md"))])
TYPED = ["README.md", "docs/quickstart.md", "docs/architecture.md", "docs/development.md"]
"""Pages of which every command in the text is a whole one."""
GENERATED = {"docs/cli.md", "docs/configuration.md"}
SHOWN = sorted({page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").glob("*.md")} - {*TYPED, *GENERATED})
"""Pages of which those in blocks of shell are."""
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)", re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
REDIRECTED = re.compile(r" [<>|] ")
INLINE = re.compile(r"`(tilehawk [^`\n]+)`")
NOT_ONE_COMMAND = {"COMMAND", "--help"}


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for inline, reference_style in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        link = inline or reference_style
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def command_lines(page: str) -> list[str]:
    """Every call of ``tilehawk`` that the page shows, in a block of shell or in a line of text."""
    typed = [call.strip() for block in SHELL.findall(page) for line in block.splitlines() for call in line.split("&&")]
    typed += INLINE.findall(FENCE.sub("", page))
    return [call for call in typed if call.startswith("tilehawk ")]


def understand(line: str) -> str:
    """Read ``line`` as the command line would, without running it; returns the command's name.

    Raises:
        UsageError, typer.TyperException: as the real command does.
    """
    words = shlex.split(REDIRECTED.split(line)[0], comments=True)[1:]
    command: Any = typer.main.get_command(build())
    name: list[str] = []
    while hasattr(command, "commands"):
        if getattr(command, "invoke_without_command", False) and words[:1] != ["--help"] and (not words or words[0].startswith("-")):
            break
        if not words or words[0].startswith("-"):
            raise UsageError(f"{line!r} names no command")
        name.append(words.pop(0))
        if name[-1] not in command.commands:
            raise UsageError(f"{line!r}: no command {' '.join(name)!r}")
        command = command.commands[name[-1]]
    context = command.make_context(" ".join(name), words)
    configs = {each.__name__.lower(): each for each in reference.stage_configs()}
    parts = [part.removesuffix("s") for part in name]
    config = configs.get(f"{''.join(parts)}config") or configs.get(f"{parts[0]}config")
    if context.params.get("settings"):
        assert config is not None, f"no configuration for {name}"
        configured(config, None, context.params["settings"])
    return " ".join(name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_index_leads_to_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [
        page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md") if page.parent.name in {"docs", "decisions"}
    ]
    assert [page for page in pages if page != "README.md" and f"({page})" not in index] == []


@pytest.mark.parametrize("page", TYPED)
def test_commands_on_the_page_are_understood(page):
    for line in command_lines((ROOT / page).read_text(encoding="utf-8")):
        if not NOT_ONE_COMMAND & set(line.split()):
            understand(line)


@pytest.mark.parametrize("page", SHOWN)
def test_commands_in_blocks_of_shell_are_understood(page):
    for block in SHELL.findall((ROOT / page).read_text(encoding="utf-8")):
        for line in command_lines(f"```sh\n{block}```"):
            understand(line)


def test_readme_walks_through_the_whole_loop():
    shown = {understand(line) for block in SHELL.findall((ROOT / "README.md").read_text()) for line in command_lines(f"```sh\n{block}```")}
    wanted = ["init", "ingest", "pretrain", "predict", "rank", "oracle", "finetune", "evaluate", "export", "detect", "status"]
    assert {*wanted, "labels import"} <= shown


@pytest.mark.parametrize(
    "line", ["tilehawk init survey && cd survey", "tilehawk labels import x.json --withhold  # keep", "tilehawk rank --seed 3"]
)
def test_a_right_line_is_understood(line):
    assert [understand(each) for each in command_lines(f"```sh\n{line}\n```")]


@pytest.mark.parametrize(
    "line",
    ["tilehawk ingst a", "tilehawk labels imprt a", "tilehawk ingest a --tiel 3", "tilehawk ingest", "tilehawk ingest a --set tlie=3"],
)
def test_a_wrong_line_is_refused(line):
    with pytest.raises((UsageError, typer.TyperException)):
        understand(line)


def test_a_link_to_nowhere_is_found(tmp_path):
    (tmp_path / "there.md").write_text("# One Heading\n")
    page = tmp_path / "page.md"
    page.write_text("[a](there.md) [b](there.md#one-heading) [c](gone.md) [d](there.md#two) [e](https://example.org)\n\n[f]: lost.md\n")
    assert broken_links(page) == ["gone.md", "there.md#two", "lost.md"]

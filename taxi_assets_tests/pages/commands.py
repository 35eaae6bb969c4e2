"""The commands of the pages: every command of README.md and docs/*.md, with its page and line.

A block is fenced (``` or ```sh) or indented by four spaces; a code span in the text counts when it begins like a command.
Blocks of Python and SQL count, too; a block of `text` right below a command is its expected output (`…` matches anything).
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(REPOSITORY).as_posix() for path in REPOSITORY.glob("docs/*.md")),
)
PROGRAMS = "make|dagster|dg|python3?|docker|gcloud|gsutil|bq|terraform|git|ssh|psql|pip|uv|curl|echo|deploy/gcp/release"
NEAR = 4
"""Lines between a command and its expected output, with a closing fence, a blank line and an opening fence."""
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?(?:{PROGRAMS}) \S")


@dataclass(frozen=True)
class Command:
    """A command. `shown` is its expected output (a `text` block right below), or None."""

    page: str
    line: int
    language: str
    text: str
    shown: str | None = None
    span: bool = False
    """Whether it is a code span in the text; one that repeats a command is not tried again."""

    @property
    def end(self) -> int:
        """Its last line."""
        return self.line + self.text.count("\n")


@dataclass
class Block:
    """A block of a page: the number of its first line, the language of its fence ("" without one) and its lines."""

    line: int
    language: str
    lines: list[str]


@lru_cache
def commands() -> tuple[Command, ...]:
    """Every command of every page, in reading order."""
    found: list[Command] = []
    for page in PAGES:
        blocks, prose = parse((REPOSITORY / page).read_text(encoding="utf-8"))
        there = [*(command for block in blocks for command in _in_block(page, block)), *_in_prose(page, prose)]
        there.sort(key=lambda command: command.line)
        for block in blocks:
            above = [i for i, command in enumerate(there) if 0 < block.line - command.end <= NEAR]
            if block.language == "text" and above:
                there[above[-1]] = replace(there[above[-1]], shown="\n".join(block.lines).strip("\n"))
        found += there
    kept: dict[object, Command] = {}
    for at, command in enumerate(found):
        first = kept.get(command.text)
        if command.span and first:
            kept[command.text] = replace(first, shown=first.shown or command.shown)
        else:
            kept[(command.text, at) if first else command.text] = command
    return tuple(kept.values())


def parse(text: str) -> tuple[list[Block], str]:
    """A page's blocks, and the page with its blocks blanked out."""
    blocks: list[Block] = []
    prose: list[str] = []
    inside: Block | None = None
    previous = ""
    for number, line in enumerate(text.splitlines(), 1):
        fence = line.startswith("```")
        indented = line.startswith("    ") and not line.lstrip().startswith(("- ", "* "))
        if inside and inside.language != "indented":
            if fence:
                inside = None
            else:
                inside.lines.append(line)
        elif fence:
            blocks.append(inside := Block(number + 1, line[3:].strip(), []))
        elif indented and (inside or not previous.strip()):
            if not inside:
                blocks.append(inside := Block(number, "indented", []))
            inside.lines.append(line[4:])
        elif inside and not line.strip():
            inside.lines.append("")
        else:
            inside = None
            prose.append(line)
            previous = line
            continue
        prose.append("")
        previous = line
    return blocks, "\n".join(prose)


def _in_block(page: str, block: Block) -> list[Command]:
    text = "\n".join(block.lines).strip("\n")
    if block.language == "python":
        return [Command(page, block.line, "python", text)]
    if block.language == "sql":
        return [Command(page, block.line, "sql", text)]
    if block.language not in ("", "sh", "indented") or re.search("[─│]", text):  # a drawing is no command
        return []
    if text.startswith("SELECT "):
        return [Command(page, block.line, "sql", text)]
    return [Command(page, block.line + at, "sh", command) for at, command in split(text)]


def _in_prose(page: str, prose: str) -> list[Command]:
    found = []
    for match in SPAN.finditer(prose):
        command = " ".join(match[1].split())
        if COMMAND.match(command):
            found.append(Command(page, prose.count("\n", 0, match.start()) + 1, "sh", command, span=True))
    return found


def split(block: str) -> list[tuple[int, str]]:
    """The block's commands without comments, each with its line in it; a loop or an open quotation is one command."""
    found: list[tuple[int, str]] = []
    pending: list[str] = []
    for at, line in enumerate(block.splitlines()):
        if not pending and (not line.strip() or line.lstrip().startswith("#")):
            continue
        pending.append(re.sub(r"\s+# .*$", "", line).rstrip())
        text = "\n".join(pending)
        if not text.endswith("\\") and _is_whole(text):
            found.append((at - len(pending) + 1, text))
            pending = []
    if pending:
        raise ValueError(f"not a whole command: {' '.join(pending)}")
    return found


def _is_whole(text: str) -> bool:
    if not re.search(r"['\"<({]|\b(?:for|if|while)\b", text):
        return True  # sparing a process
    return subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0

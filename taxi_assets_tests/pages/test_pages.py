"""README.md and docs/*.md name only existing files and targets, and only tested commands."""

import re
from functools import lru_cache

import pytest

from taxi_assets.settings import Settings
from taxi_assets_tests.pages.__main__ import shows
from taxi_assets_tests.pages.commands import PAGES, REPOSITORY, Block, commands, parse, split
from taxi_assets_tests.pages.table import TABLE, Elsewhere, how

SUFFIXES = "py|md|lock|toml|yaml|yml|tf|tfvars|hcl|example|json|html|txt|sh"
TESTS = "taxi_assets_tests/"
MIRRORED = (
    "core", "datasets", "publisher", "lake", "sinks", "status", "assets", "automation", "reports", "cli", "pages", "integration",
)  # fmt: skip
FOLDERS = ("", "taxi_assets/", "docs/", "terraform/", "benchmarks/", TESTS, *(f"{TESTS}{name}/" for name in MIRRORED))
NOT_OURS = {"docker-compose.override.yml", "terraform.tfvars", ".terraform.lock.hcl", "io_config.yaml"}
"""Files that a reader creates, or has from Mage."""
OTHER_SETTINGS = {"TAXI_TEST_DATA", "TAXI_CHROMIUM"}


@lru_cache
def text(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


@lru_cache
def sources(*patterns: str) -> str:
    return "\n".join(path.read_text() for pattern in patterns for path in sorted(REPOSITORY.glob(pattern)))


def test_every_command_is_tried():
    assert len(commands()) > 60
    for command in commands():
        how(command)


def test_every_row_of_the_table_has_a_command():
    texts = [command.text for command in commands()]
    assert [pattern for pattern, _ in TABLE if not any(re.match(pattern, text) for text in texts)] == []


def test_what_tries_a_command_elsewhere_exists():
    told = " ".join(way.by for _, way in TABLE if isinstance(way, Elsewhere))
    for name in re.findall(r"test_\w+\.py", told):
        assert list(REPOSITORY.glob(f"taxi_assets_tests/**/{name}")), name
    assert (REPOSITORY / ".ci" / "run").read_text().count("make test") == 1
    assert (REPOSITORY / "deploy" / "verify").exists()


@pytest.mark.parametrize("page", PAGES)
def test_make_has_every_target_that_is_named(page):
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^ {4}|^)(?:[A-Z_]+=\S+ )*make ([a-z-]+)", text(page), re.M))
    assert named <= targets


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", text(page)):
        if re.match(r"https?://", target):
            continue
        name, _, heading = target.partition("#")
        path = (REPOSITORY / page).parent / name if name else REPOSITORY / page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles], target


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page):
    for name in re.findall(rf"`([\w./-]*\w\.(?:{SUFFIXES}))`", text(page)):
        if not name.startswith(".taxi/") and name not in NOT_OURS:
            assert any((REPOSITORY / folder / name).exists() for folder in FOLDERS), name


@pytest.mark.parametrize("page", PAGES)
def test_every_setting_that_is_named_exists(page):
    settings = {f"TAXI_{name.upper()}" for name in Settings.model_fields} | OTHER_SETTINGS
    assert set(re.findall(r"\bTAXI_[A-Z_]+[A-Z]\b", text(page))) <= settings


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page):
    written = sources("taxi_assets_tests/**/test_*.py")
    for name in set(re.findall(r"\btest_\w+(?!\w|\.py)", text(page))):
        file = list(REPOSITORY.glob(f"taxi_assets_tests/**/{name}.py"))
        assert file or re.search(rf"def {name}", written), name


def test_commands_are_found_in_blocks_and_in_the_text():
    blocks, prose = parse(
        "Type\n`make\nx`:\n\n    make a   # why\n    make b \\\n      c\n\n- item\n    is no block\n\n```sh\nfor x in 1 2; do\n"
        "  echo $x\ndone\n# a comment\necho 'two\nlines'\n```\n\n```python\nmake = 1\n```\n"
    )
    assert [block.language for block in blocks] == ["indented", "sh", "python"]
    assert split("\n".join(blocks[0].lines)) == [(0, "make a"), (1, "make b \\\n  c")]
    assert split("\n".join(blocks[1].lines)) == [(0, "for x in 1 2; do\n  echo $x\ndone"), (4, "echo 'two\nlines'")]
    assert blocks[1].line == 13
    assert "`make\nx`" in prose
    assert "is no block" in prose
    assert "echo" not in prose
    assert isinstance(blocks[2], Block)


def test_a_command_in_no_row_says_what_to_do(monkeypatch):
    monkeypatch.setattr("taxi_assets_tests.pages.table.TABLE", ())
    with pytest.raises(
        LookupError, match=r"README.md:\d+: say in taxi_assets_tests/pages/table.py how this is tried: make"
    ):
        how(commands()[0])


def test_what_a_page_shows_is_compared_but_for_what_it_leaves_open():
    assert shows("a  1\n…\nz", "first\na  1  \nb\nc\nz\n")
    assert not shows("a  1\n…\nz", "a  2\nb\nz")

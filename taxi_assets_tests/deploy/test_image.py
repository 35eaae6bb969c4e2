"""deploy/Dockerfile and the contents of the image, without building it (make verify-deploy builds it)."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = [REPOSITORY / "deploy" / name for name in ("Dockerfile", "emulators.Dockerfile")]
LOCK = (REPOSITORY / "requirements-deploy.lock").read_text()
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def instructions(path: Path) -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines joined, without comments."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    return [
        tuple(line.split(maxsplit=1)) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()
    ]


def pinned(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][\w.-]*)==(\S+)", lock, re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
class TestEveryImage:
    def test_is_built_in_stages_on_a_base_of_a_named_version(self, path: Path) -> None:
        bases = [value for name, value in instructions(path) if name == "FROM"]
        assert len(bases) == 2
        assert all(base.startswith("${PYTHON_IMAGE}") for base in bases)
        (default,) = [value for name, value in instructions(path) if value.startswith("PYTHON_IMAGE=")]
        assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", default)

    def test_runs_as_a_user_by_number_who_is_not_root(self, path: Path) -> None:
        users = [value for name, value in instructions(path) if name == "USER"]
        assert users == ["10001:10001"]
        assert [name for name, _ in instructions(path)][-3:].count("USER") == 1

    def test_installs_only_what_a_lock_names_by_its_hash(self, path: Path) -> None:
        text = " ".join(value for name, value in instructions(path) if name == "RUN")
        assert text.count("pip --python") == text.count("--require-hashes") == text.count("--only-binary :all:") == 1
        assert not re.search(r"apt-get|curl|wget|git clone", text)

    def test_is_told_no_secret(self, path: Path) -> None:
        words = " ".join(value for name, value in instructions(path) if name in ("ARG", "ENV", "LABEL"))
        assert not re.search(r"passw|secret|token|_key|://\S+@", words, re.IGNORECASE)


def test_the_image_has_no_entrypoint_for_the_launcher_overrides_arguments_alone() -> None:
    assert [value for name, value in instructions(FILES[0]) if name in ("ENTRYPOINT", "HEALTHCHECK")] == []


def test_the_image_holds_the_deployments_at_the_paths_that_they_name() -> None:
    copied = {value.split()[-1] for name, value in instructions(FILES[0]) if name == "COPY"}
    assert {"/opt/taxi/taxi_assets", "/opt/taxi/deploy/gcp", "/opt/taxi/deploy/compose"} <= copied
    for user in ("deploy/gcp/release", "terraform/run.tf", "docker-compose.yml"):
        for path in re.findall(r"/opt/taxi/([\w./-]+)", (REPOSITORY / user).read_text()):
            assert (REPOSITORY / path).exists(), (user, path)


def test_nothing_reaches_the_builder_but_what_is_copied() -> None:
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert rules[0] == "*"
    sources = {
        source
        for path in FILES
        for name, value in instructions(path)
        if name == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    }
    let_in = [rule[1:].rstrip("/") for rule in rules if rule.startswith("!")]
    assert all(any(source.startswith(each) for each in let_in) for source in sources), sources
    assert "**/.env" in rules


def test_the_deployments_lock_adds_to_the_products_and_changes_nothing_of_it() -> None:
    ours, deployed = pinned((REPOSITORY / "requirements.lock").read_text()), pinned(LOCK)
    common = ours.keys() & deployed.keys()  # the image has no `dg`, and not what only `dg` needs
    assert {name: ours[name] for name in common} == {name: deployed[name] for name in common}
    assert ours.keys() - common >= {"dagster-dg-cli", "dagster-dg-core"}
    direct = {re.split(r"[\[>=<]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert direct <= common
    added = set(deployed) - set(ours)
    assert {"dagster-contrib-gcp", "dagster-celery", "celery", "redis"} <= added


def test_every_package_of_the_lock_has_hashes_and_none_an_address() -> None:
    entries = re.split(r"\n(?=[a-z0-9])", LOCK.strip())
    assert len(entries) > 100
    assert [entry.split()[0] for entry in entries if not re.match(r"[a-z0-9][\w.-]*==\S+ ", entry)] == []
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK


@pytest.mark.parametrize(
    "script", ["deploy/compose/databases.sh", "deploy/compose/serve-emulator", "deploy/gcp/release"]
)
def test_the_shell_scripts_are_sound(script: str) -> None:
    path = REPOSITORY / script
    assert path.stat().st_mode & 0o111
    subprocess.run(["sh", "-n", str(path)], check=True)
    if checker := shutil.which("shellcheck"):
        subprocess.run([checker, str(path)], check=True)

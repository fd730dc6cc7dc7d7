"""Writes the dashboards' JSON: `python -m dashboards.build`, or with --check says what is not as the code makes it."""

import argparse
import json
import sys
from pathlib import Path

from dashboards.evaluation import evaluation
from dashboards.infrastructure import infrastructure
from dashboards.learner import learner
from dashboards.model import Dashboard, Json
from dashboards.overview import overview
from dashboards.rollout import rollout
from dashboards.shaping import shaping

FOLDER = Path(__file__).parent / "json"
DASHBOARDS = (overview, rollout, shaping, learner, evaluation, infrastructure)


def dashboards() -> dict[str, Json]:
    """Every dashboard as Grafana reads it, by uid."""
    made: tuple[Dashboard, ...] = tuple(make() for make in DASHBOARDS)
    return {each.uid: each.to_json() for each in made}


def rendered() -> dict[str, str]:
    """The text of each file of the folder, by file name."""
    return {f"{uid}.json": json.dumps(each, indent=1, ensure_ascii=True) + "\n" for uid, each in dashboards().items()}


def differences(folder: Path) -> list[str]:
    """Names of files that are missing, too many or not as the code makes them, sorted."""
    wanted = rendered()
    found = {path.name: path.read_text() for path in folder.glob("*.json")}
    return sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))


def write(folder: Path) -> None:
    """Make the folder hold exactly the dashboards."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = rendered()
    for path in folder.glob("*.json"):
        if path.name not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (folder / name).write_text(text)


def main(arguments: list[str] | None = None) -> int:
    """0, or 1 when --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m dashboards.build", description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; 1 if a file is not as the code makes it.")
    if not parser.parse_args(arguments).check:
        write(FOLDER)
        return 0
    changed = differences(FOLDER)
    if changed:
        sys.stderr.write(
            f"dashboards/json must be what the code makes, found other {', '.join(changed)}; "
            "run python -m dashboards.build\n"
        )
    return 1 if changed else 0


if __name__ == "__main__":
    raise SystemExit(main())

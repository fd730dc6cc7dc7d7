"""Laws of the committed JSON: it is what the code makes, and Grafana's own types read it."""

import importlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dashboards import build
from dashboards.build import FOLDER, dashboards, differences, rendered, write
from dashboards.model import Json, Kind

UIDS = {
    *("lessrl-overview", "lessrl-rollout", "lessrl-shaping", "lessrl-learner"),
    *("lessrl-evaluation", "lessrl-infrastructure"),
}


MISSING = object()


@dataclass(frozen=True)
class Grafana:
    """The types of schema 42, with those of the panels."""

    read: Callable[[Json], object]
    encode: Callable[[object], str]


@pytest.fixture(scope="module")
def grafana() -> Grafana:
    with warnings.catch_warnings():
        # Importing them warns that newer ones exist, which no Grafana before 13 reads.
        warnings.simplefilter("ignore", DeprecationWarning)
        model = importlib.import_module("grafana_foundation_sdk.models.dashboard")
        importlib.import_module("grafana_foundation_sdk.cog.plugins").register_default_plugins()
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder").JSONEncoder(sort_keys=True)
    return Grafana(read=model.Dashboard.from_json, encode=encoder.encode)


def test_the_committed_json_is_what_the_code_makes() -> None:
    assert differences(FOLDER) == []
    assert {path.stem for path in FOLDER.glob("*.json")} == UIDS


def test_building_twice_gives_the_same_text() -> None:
    assert rendered() == rendered()


def test_a_changed_a_missing_and_a_foreign_file_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    assert differences(tmp_path) == []
    (tmp_path / "lessrl-learner.json").write_text("{}")
    (tmp_path / "lessrl-rollout.json").unlink()
    (tmp_path / "mine.json").write_text("{}")
    assert differences(tmp_path) == ["lessrl-learner.json", "lessrl-rollout.json", "mine.json"]


def test_writing_removes_what_the_code_makes_no_more(tmp_path: Path) -> None:
    (tmp_path / "lessrl-former.json").write_text("{}")
    write(tmp_path)
    assert {path.stem for path in tmp_path.glob("*.json")} == UIDS


def test_the_command_checks_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "FOLDER", tmp_path)
    assert build.main(["--check"]) == 1
    assert "lessrl-shaping.json" in capsys.readouterr().err
    assert build.main([]) == 0
    assert build.main(["--check"]) == 0


def read_by_grafana(grafana: Grafana, dashboard: Json) -> Json:
    """What Grafana's own types make of a dashboard: a key that they do not know is gone."""
    read: Json = json.loads(grafana.encode(grafana.read(json.loads(json.dumps(dashboard)))))
    return read


def lost(ours: object, theirs: object, path: str) -> list[str]:
    """Paths of what is in the one and is not the same in the other."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = [lost(value, theirs.get(key, MISSING), f"{path}.{key}") for key, value in ours.items()]
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        found = [lost(one, other, f"{path}[{at}]") for at, (one, other) in enumerate(zip(ours, theirs, strict=True))]
    else:
        return [] if ours == theirs else [path]
    return [each for part in found for each in part]


@pytest.mark.parametrize("uid", sorted(UIDS))
def test_grafanas_own_types_know_everything_in_a_dashboard(uid: str, grafana: Grafana) -> None:
    ours = dashboards()[uid]
    assert lost(ours, read_by_grafana(grafana, ours), uid) == []


@pytest.mark.parametrize("kind", Kind)
def test_an_option_that_grafana_does_not_know_is_found_in_each_kind_of_panel(kind: Kind, grafana: Grafana) -> None:
    uid, at = next(
        (uid, at)
        for uid, each in dashboards().items()
        for at, panel in enumerate(each["panels"])
        if panel["type"] == kind
    )
    planted = dashboards()[uid]
    planted["panels"][at]["options"]["legnd"] = {}
    assert lost(planted, read_by_grafana(grafana, planted), uid) == [f"{uid}.panels[{at}].options.legnd"]


def test_no_dashboard_asks_for_a_value_that_is_written_in_it() -> None:
    text = "".join(path.read_text() for path in FOLDER.glob("*.json"))
    assert "http://" not in text and "https://" not in text
    assert '"uid": "prometheus"' not in text

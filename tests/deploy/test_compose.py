"""One node with Prometheus and Grafana: compose files, scrape configs and provisioning, checked by their own tools."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.api.auth import read_tokens

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
FILES = ("compose.yaml", "compose.gpu.yaml")
CHECK_SCHEMA = ROOT / ".venv" / "bin" / "check-jsonschema"
PROVISIONING = COMPOSE / "grafana" / "provisioning"
SCRAPE_CONFIGS = ("deploy/compose/prometheus.yml", "deploy/prometheus/prometheus.yml")


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def services() -> dict[str, Any]:
    found: dict[str, Any] = read(COMPOSE / "compose.yaml")["services"]
    return found


def port_mistakes(compose: Any) -> list[str]:
    """Ports that are published on more than the loopback address."""
    ports = [port for each in compose["services"].values() for port in each.get("ports", [])]
    return [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z_]+:-\d+}:\d+", str(port))]


def secret_mistakes(compose: Any) -> list[str]:
    """Variables that are named like a secret and hold anything but the path of a file."""
    variables = [pair for each in compose["services"].values() for pair in each.get("environment", {}).items()]
    named = [(name, str(value)) for name, value in variables if re.search("TOKEN|PASSWORD|SECRET|KEY", name)]
    return [name for name, value in named if not value.startswith("/run/")]


def binds() -> list[tuple[str, str]]:
    """(source, target) of every folder or file of this repository that a service gets."""
    volumes = [volume for each in services().values() for volume in each.get("volumes", [])]
    pairs = [volume.split(":")[:2] for volume in volumes]
    return [(source, target) for source, target in pairs if source.startswith(".")]


def check_schema(*paths: Path) -> "subprocess.CompletedProcess[str]":
    words = [CHECK_SCHEMA, "--builtin-schema", "vendor.compose-spec", *paths]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def check_scrapes(path: Path) -> "subprocess.CompletedProcess[str]":
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return subprocess.run([promtool, "check", "config", path], capture_output=True, text=True, check=False)


def make_secrets(folder: Path) -> "subprocess.CompletedProcess[str]":
    words = [COMPOSE / "make_secrets.sh", folder]
    return subprocess.run(words, capture_output=True, text=True, check=True)


@pytest.fixture
def deployed(tmp_path: Path) -> Path:
    """A copy of the folders that Prometheus gets, with secrets made."""
    for name in ("compose", "prometheus"):
        shutil.copytree(ROOT / "deploy" / name, tmp_path / name, ignore=shutil.ignore_patterns("secrets"))
    make_secrets(tmp_path / "compose" / "secrets")
    return tmp_path


def test_both_files_are_compose_files() -> None:
    said = check_schema(*(COMPOSE / name for name in FILES))
    assert said.returncode == 0, said.stdout


def test_a_planted_wrong_key_is_found(tmp_path: Path) -> None:
    planted = tmp_path / "compose.yaml"
    planted.write_text((COMPOSE / "compose.yaml").read_text().replace("stop_grace_period:", "stop_grace_time:"))
    said = check_schema(planted)
    assert said.returncode != 0
    assert "stop_grace_time" in said.stdout


def test_a_port_is_published_to_this_machine_alone() -> None:
    assert [port_mistakes(read(COMPOSE / name)) for name in FILES] == [[], []]
    assert {name for name, each in services().items() if "ports" in each} == {"head", "prometheus", "grafana"}
    planted = {"services": {"head": {"ports": ["${LESSRL_PORT:-8470}:8470", "127.0.0.1:${LESSRL_PORT:-8470}:8470"]}}}
    assert port_mistakes(planted) == ["${LESSRL_PORT:-8470}:8470"]


def test_no_secret_is_written_down() -> None:
    compose = read(COMPOSE / "compose.yaml")
    assert secret_mistakes(compose) == []
    planted = {"services": {"grafana": {"environment": {"GF_SECURITY_ADMIN_PASSWORD": "admin"}}}}
    assert secret_mistakes(planted) == ["GF_SECURITY_ADMIN_PASSWORD"]
    assert all(list(each) == ["file"] and each["file"].startswith("./secrets/") for each in compose["secrets"].values())


def test_a_foreign_image_is_pinned_by_version_and_digest() -> None:
    images = {name: each["image"] for name, each in services().items()}
    assert images.pop("head") == "${LESSRL_IMAGE:-lessrl:cpu}"
    assert images
    for image in images.values():
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+@sha256:[0-9a-f]{64}", image), image


def test_every_service_is_watched_and_confined() -> None:
    for name, each in services().items():
        assert each["healthcheck"]["test"][0] == "CMD", name
        assert each["restart"] == "unless-stopped", name
        assert each["read_only"] is True, name
        assert each["cap_drop"] == ["ALL"], name
        assert each["security_opt"] == ["no-new-privileges:true"], name


def test_a_head_that_is_stopped_has_time_for_its_checkpoint() -> None:
    minutes = re.fullmatch(r"(\d+)m", services()["head"]["stop_grace_period"])
    script = (ROOT / "deploy" / "docker" / "entrypoint.sh").read_text()
    own = re.search(r"LESSRL_STOP_SECONDS:-(\d+)}", script)
    assert minutes is not None
    assert own is not None
    # Ray drains for up to half a minute after the runs have paused.
    assert int(own[1]) + 30 < int(minutes[1]) * 60


def test_every_volume_is_declared_and_used() -> None:
    volumes = [volume.split(":")[0] for each in services().values() for volume in each.get("volumes", [])]
    named = {each for each in volumes if not each.startswith(".")}
    assert named == set(read(COMPOSE / "compose.yaml")["volumes"])


def test_every_secret_is_declared_used_and_made(tmp_path: Path) -> None:
    used = [each for service in services().values() for each in service.get("secrets", [])]
    names = {each if isinstance(each, str) else each["source"] for each in used}
    declared = read(COMPOSE / "compose.yaml")["secrets"]
    assert names == set(declared)
    make_secrets(tmp_path / "secrets")
    assert {Path(each["file"]).name for each in declared.values()} == {
        each.name for each in (tmp_path / "secrets").iterdir() if each.name != ".gitignore"
    }


def test_what_a_service_gets_of_this_repository_exists_and_is_read_only() -> None:
    assert len(binds()) == 4
    for source, _ in binds():
        assert (COMPOSE / source).exists(), source
    volumes = [volume for each in services().values() for volume in each.get("volumes", []) if volume.startswith(".")]
    assert all(volume.endswith(":ro") for volume in volumes)


def test_gpus_are_asked_for_in_the_second_file_alone() -> None:
    (name, head), *others = read(COMPOSE / "compose.gpu.yaml")["services"].items()
    assert (name, others) == ("head", [])
    (device,) = head["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    assert head["build"]["target"] == "gpu"
    assert "deploy" not in services()["head"]
    # A folder of data that is missing is a mistake of the user, and not an empty folder of root's.
    assert head["volumes"][0]["bind"] == {"create_host_path": False}


def test_secrets_are_made_once_and_shown_to_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    said = make_secrets(folder)
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert before[".gitignore"] == "*\n"
    for name, text in before.items():
        if name not in {".gitignore", "lessrl_tokens"}:
            assert re.fullmatch("[0-9a-f]{48}", text), name
            assert text not in said.stdout + said.stderr
    make_secrets(folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before


def test_the_control_plane_knows_the_tokens_of_its_operator_and_of_prometheus(tmp_path: Path) -> None:
    make_secrets(tmp_path / "secrets")
    # The copy that the entry point makes.
    copy = tmp_path / "lessrl_tokens"
    copy.write_text((tmp_path / "secrets" / "lessrl_tokens").read_text())
    copy.chmod(0o600)
    tokens = read_tokens(copy, environment={})
    assert [(each.name, each.role) for each in tokens] == [("operator", "admin"), ("prometheus", "read")]
    words = [line.split()[2] for line in copy.read_text().splitlines()]
    assert words == [(tmp_path / "secrets" / name).read_text() for name in ("operator_token", "prometheus_token")]


@pytest.mark.parametrize("name", SCRAPE_CONFIGS)
def test_prometheus_accepts_its_config(deployed: Path, name: str) -> None:
    said = check_scrapes(deployed / Path(name).relative_to("deploy"))
    assert said.returncode == 0, said.stderr
    assert "1 rule files found" in said.stdout


def test_prometheus_finds_a_planted_mistake(deployed: Path) -> None:
    path = deployed / "compose" / "prometheus.yml"
    path.write_text(path.read_text().replace("credentials_file: secrets/", "credentials_file: secret/"))
    assert check_scrapes(path).returncode != 0


def test_prometheus_finds_its_files_where_its_container_has_them() -> None:
    (config,) = [target for source, target in binds() if source == "./prometheus.yml"]
    (rules,) = [target for source, target in binds() if source == "../prometheus"]
    (token,) = [each["target"] for each in services()["prometheus"]["secrets"]]
    scrapes = read(COMPOSE / "prometheus.yml")
    here = Path(config).parent
    assert f"--config.file={config}" in services()["prometheus"]["command"]
    assert [(here / each).parent.resolve() for each in scrapes["rule_files"]] == [Path(rules)]
    assert str(here / scrapes["scrape_configs"][0]["authorization"]["credentials_file"]) == token


def test_prometheus_asks_the_head_where_it_listens() -> None:
    head = services()["head"]
    lessrl, ray, _ = read(COMPOSE / "prometheus.yml")["scrape_configs"]
    # A control plane answers to the name of its machine, and to no other that it was not told.
    assert lessrl["static_configs"] == [{"targets": [f"{head['hostname']}:{head['environment']['LESSRL_PORT']}"]}]
    assert head["ports"][0].endswith(f":{head['environment']['LESSRL_PORT']}")
    (discovered,) = ray["file_sd_configs"][0]["files"]
    volumes = [volume.split(":")[:2] for name in ("head", "prometheus") for volume in services()[name]["volumes"]]
    assert volumes.count(["ray", str(Path(discovered).parent)]) == 2


def test_grafana_knows_the_scrape_interval_and_a_uid_that_stays() -> None:
    (source,) = read(PROVISIONING / "datasources" / "lessrl.yml")["datasources"]
    assert (source["uid"], source["type"]) == ("lessrl-prometheus", "prometheus")
    intervals = [read(ROOT / name)["global"]["scrape_interval"] for name in SCRAPE_CONFIGS]
    assert intervals == [source["jsonData"]["timeInterval"]] * 2


def test_dashboards_are_files_that_grafana_does_not_change() -> None:
    (provider,) = read(PROVISIONING / "dashboards" / "lessrl.yml")["providers"]
    assert (provider["type"], provider["folder"]) == ("file", "lessrl")
    assert (provider["allowUiUpdates"], provider["disableDeletion"]) == (False, True)


def test_grafana_is_told_what_its_provisioning_names() -> None:
    text = "".join(path.read_text() for path in sorted(PROVISIONING.rglob("*.yml")))
    environment = services()["grafana"]["environment"]
    assert set(re.findall(r"\$([A-Z_]+)", text.partition("\n")[2])) == {"LESSRL_DASHBOARDS", "LESSRL_PROMETHEUS_URL"}
    assert ("../../dashboards/json", environment["LESSRL_DASHBOARDS"]) in binds()
    assert ("./grafana/provisioning", "/etc/grafana/provisioning") in binds()
    assert environment["LESSRL_PROMETHEUS_URL"] == "http://prometheus:9090"

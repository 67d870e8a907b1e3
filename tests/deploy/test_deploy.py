"""What is in deploy/ fits the code and itself: what is named exists, settings are accepted, figures are measured."""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from typer.testing import CliRunner

from semiome.app import app
from service.config import read_config
from service.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PIN = re.compile(r"^([\w.-]+)==([\w.]+)", re.MULTILINE)
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")


def documents(path):
    return list(yaml.safe_load_all(path.read_text()))


def containers():
    """Everything that runs in Kubernetes: (kind, pod, container)."""
    for path in (*MANIFESTS, *sorted(KUBERNETES.glob("jobs/*.yaml"))):
        for found in documents(path):
            spec = found.get("spec", {})
            pod = spec.get("jobTemplate", {}).get("spec", spec).get("template", {}).get("spec", {})
            for container in (*pod.get("initContainers", ()), *pod.get("containers", ())):
                yield found["kind"], pod, container


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_yaml_file_can_be_read(path):
    assert all(documents(path))


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("Dockerfile")), ids=lambda path: path.parent.name)
def test_what_an_image_is_made_of_exists_and_reaches_the_builder(path):
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copies = [line.split()[1:-1] for line in path.read_text().splitlines() if re.match(r"COPY (?!--from)", line)]
    assert copies
    for name in (name for copied in copies for name in copied):
        assert (ROOT / name).exists(), name
        assert name in sent, f".dockerignore leaves {name} out"


def test_the_image_holds_every_package():
    packages = (ROOT / "pyproject.toml").read_text().split("packages = [")[1].split("]")[0]
    wanted = {name.split(".")[0] for name in re.findall(r'"(.+?)"', packages)}

    assert wanted <= set(re.findall(r"^COPY (\w+) \w+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", [ROOT / "requirements.lock", DEPLOY / "requirements.lock"], ids=str)
def test_every_file_of_a_lock_has_a_hash_but_torchs(path):
    entries = [entry for entry in re.split(r"^(?=\S)", path.read_text(), flags=re.MULTILINE) if entry]

    assert [entry.strip() for entry in entries if "--hash=sha256:" not in entry] == ["torch==2.13.0"]
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+==[0-9][\w.]*", entry.split()[0]) for entry in entries)


def test_the_image_is_locked_to_versions_that_were_tested_and_holds_no_tool_of_developers():
    tested, image = (dict(PIN.findall((folder / "requirements.lock").read_text())) for folder in (ROOT, DEPLOY))

    assert image.items() <= tested.items()
    assert {"pytest", "ruff", "mypy", "hypothesis", "playwright", "moto"}.isdisjoint(image)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {re.match(r"[\w-]+", one)[0].lower() for one in project["dependencies"]} <= set(image)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.toml")), ids=lambda path: str(path.relative_to(DEPLOY)))
def test_settings_are_accepted_and_ask_who_calls(path):
    assert read_config(path).signs_in


def test_a_pod_has_more_time_to_end_than_its_calls():
    (deployment,) = documents(KUBERNETES / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]
    before = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])

    assert pod["terminationGracePeriodSeconds"] > before + read_config(KUBERNETES / "serve.toml").drain_s


@pytest.mark.parametrize("unit", ["semiome.service", "semiome@.service"])
def test_a_unit_has_more_time_to_end_than_its_calls(unit):
    text = (DEPLOY / "systemd" / unit).read_text()
    settings = read_config(DEPLOY / ("replicas.toml" if "@" in unit else "systemd/serve.toml"))

    assert int(re.search(r"TimeoutStopSec=(\d+)", text)[1]) > settings.drain_s


def test_what_kustomize_is_to_put_together_exists():
    (found,) = documents(KUBERNETES / "kustomization.yaml")
    files = {name for made in found["configMapGenerator"] for name in made["files"]}

    assert {path.name for path in MANIFESTS} == set(found["resources"])
    assert all((KUBERNETES / name).exists() for name in files)


def test_containers_in_kubernetes_may_do_nothing_that_they_need_not():
    found = list(containers())
    assert len(found) == 6
    for _, pod, container in found:
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}


def test_services_and_policies_mean_the_pods_of_the_deployment():
    (deployment,) = documents(KUBERNETES / "deployment.yaml")
    template = deployment["spec"]["template"]
    ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
    for service in documents(KUBERNETES / "service.yaml"):
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def commands():
    """Every command line of ours that deploy/ runs."""
    for _, _, container in containers():
        if container["image"].partition(":")[0] == "semiome":
            yield container["args"]
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                if probe in container:
                    yield container[probe]["exec"]["command"][1:]
    (compose,) = documents(DEPLOY / "compose.yaml")
    yield from (service["command"] for service in compose["services"].values() if "command" in service)
    for unit in (DEPLOY / "systemd").glob("*.service"):
        (line,) = re.findall(r"^ExecStart=\S+/semiome (.*)$", unit.read_text(), re.MULTILINE)
        yield shlex.split(line.replace("%i", "50051"))


def test_every_option_that_is_given_exists():
    for command in commands():
        own = command[2:] if command[0] == "--log" else command
        groups = {"index", "store", "encoder", "head"}
        words = [word for word in own if re.fullmatch("[a-z]+", word)][: 2 if own[0] in groups else 1]
        offered = "".join(
            CliRunner().invoke(app, [*asked, "--help"], env={"COLUMNS": "200"}).output for asked in ([], words)
        )
        assert all(word in offered for word in command if word.startswith("--")), command


def test_only_servers_are_asked_for_their_health():
    assert "HEALTHCHECK --" not in (DEPLOY / "Dockerfile").read_text()
    (compose,) = documents(DEPLOY / "compose.yaml")
    for name, service in compose["services"].items():
        assert ("healthcheck" in service) == ("jobs" not in service.get("profiles", ())), name
        if "jobs" in service.get("profiles", ()):
            assert service["network_mode"] == "none"
            assert "./videos:/videos:ro" in service["volumes"]


def test_the_replicas_of_compose_are_those_that_nginx_asks():
    (compose,) = documents(DEPLOY / "compose.yaml")
    ports = {
        command[command.index("--port") + 1]
        for command in (service.get("command", ()) for service in compose["services"].values())
        if "--port" in command
    }

    asked = re.findall(r"server 127\.0\.0\.1:(\d+)", (DEPLOY / "nginx" / "semiome.conf").read_text())
    assert set(asked) == ports


def test_alerts_and_pages_name_figures_that_are_measured():
    metrics = Metrics()
    measured = generate_latest(metrics._registry).decode()  # names of all, before anything is counted
    files = (DEPLOY / "prometheus" / "alerts.yaml", DEPLOY / "grafana" / "semiome.json", ROOT / "docs" / "deploy.md")
    said = "".join(path.read_text() for path in files)
    names = set(re.findall(r"\b(?:semiome|grpc_server)_[a-z_]+", said))
    names = {name for name in names if name.startswith(("grpc_server", "semiome_"))}

    assert len(names) > 8
    for name in names:
        assert re.sub("_(bucket|total|sum|count)$", "", name) in measured, name


@pytest.mark.needs("promtool")
def test_alerts_are_rules_that_prometheus_takes_and_fire_when_they_should(tmp_path):
    rules = DEPLOY / "prometheus" / "alerts.yaml"
    (tmp_path / "test.yaml").write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": list(map(case, CASES))}))
    for command in (("check", "rules", rules), ("test", "rules", tmp_path / "test.yaml")):
        ran = subprocess.run([shutil.which("promtool"), *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr
    named = {rule["alert"] for rule in documents(rules)[0]["groups"][0]["rules"]}
    assert named == {alert for _, _, alert, _ in CASES}


CALLS = 'grpc_server_handled_total{grpc_service="semiome.v1.RetrievalService",grpc_method="Search",grpc_code="%s"}'
CASES = (
    ('up{job="semiome",instance="a"}', "0x60", "SemiomeIsDown", 10),
    (CALLS % "INTERNAL", "0+10x60", "SemiomeFails", 15),
    (CALLS % "RESOURCE_EXHAUSTED", "0+60x120", "SemiomeRefusesCallers", 90),
    ('semiome_duty_age_seconds{instance="a",duty="the index and the store"}', "0+60x60", "SemiomeRefreshIsLate", 5),
    ('semiome_duty_age_seconds{instance="a",duty="keys for tokens"}', "0+60x60", "SemiomeDutyIsLate", 30),
    ('semiome_disk_free_ratio{instance="a"}', "0.04x60", "SemiomeDiskIsFull", 10),
    ('semiome_disk_free_ratio{instance="a"}', "0.15x120", "SemiomeDiskFills", 70),
    ('semiome_certificate_ends_timestamp_seconds{instance="a"}', "100000x60", "SemiomeCertificateEnds", 10),
    ('semiome_certificate_ends_timestamp_seconds{instance="a"}', "500000x90", "SemiomeCertificateEndsSoon", 70),
    (
        'grpc_server_handling_seconds_bucket{grpc_type="unary",grpc_service="semiome.v1.RetrievalService",le="%s"}',
        {"0.1": "0+0x60", "1.0": "0+60x60", "+Inf": "0+60x60"},
        "SemiomeIsSlow",
        30,
    ),
    ('semiome_index_tail_clips{instance="a"}', "30000x120", "SemiomeIndexIsOld", 70),
)
"""A series, its values a minute, the alert that fires, and after how many minutes, alone or with a graver one."""


def case(given):
    """As promtool wants it; its clock begins at 0."""
    series, values, alert, minutes = given
    lines = {series: values} if isinstance(values, str) else {series % key: one for key, one in values.items()}
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": one} for name, one in lines.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ],
    }


def test_a_dashboard_is_one_that_grafana_takes():
    board = json.loads((DEPLOY / "grafana" / "semiome.json").read_text())
    assert {panel["type"] for panel in board["panels"]} == {"timeseries", "stat"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) == len({panel["id"] for panel in board["panels"]})
    assert all(target["expr"] and panel["description"] for panel in board["panels"] for target in panel["targets"])

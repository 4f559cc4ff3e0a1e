"""The deployment files: Kubernetes' own schemas, and that what they name is what the program has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pilothouse.agents.pilot import Pilot
from pilothouse.agents.service.app import create_app

DEPLOY = Path(__file__).parents[2] / "deploy"
KINDS = {
    "Deployment",
    "Service",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "NetworkPolicy",
}


def documents(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text()) if one]


ALL = [one for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for one in documents(path.name)]


@pytest.mark.parametrize("document", ALL, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_kubernetes_accepts_it(document: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev")
    validate.validate(document, "1.31", strict=True)


def test_the_schema_check_can_fail() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is in the extra dev")
    wrong = documents("pilothouse.yaml")[0]
    wrong["spec"]["replica"] = 2
    with pytest.raises(validate.ValidationError):
        validate.validate(wrong, "1.31", strict=True)


def test_they_are_what_they_should_be() -> None:
    assert {one["kind"] for one in ALL} == KINDS
    for one in ALL:
        labels = one["spec"].get("selector", {}).get("matchLabels") if one["kind"] != "Service" else None
        if labels and "template" in one["spec"]:
            assert labels.items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_probes_ask_paths_that_exist() -> None:
    paths = set(create_app(Pilot()).openapi()["paths"])
    container = documents("pilothouse.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    probes = [value["httpGet"]["path"] for name, value in container.items() if name.endswith("Probe")]
    assert len(probes) == 3
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["pilothouse"]
    probes += re.findall(r"8000(/\w+)", " ".join(compose["healthcheck"]["test"]))
    assert len(probes) == 4
    assert set(probes) <= paths


def test_options_exist() -> None:
    from pilothouse.agents.cli.serve import app

    told = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).output
    container = documents("pilothouse.yaml")[0]["spec"]["template"]["spec"]["containers"][0]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["pilothouse"]
    options = [word for word in container["args"] + compose["command"] if word.startswith("--")]
    assert "--keys" in options
    assert [option for option in options if option not in told] == []


def test_compose_hangs_together() -> None:
    """Every volume, secret and service that is named is defined; no secret stands in the file."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for service in services.values():
        assert service.get("image")
        assert set(service.get("depends_on", {})) <= set(services)
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
        volumes = {one.partition(":")[0] for one in service.get("volumes", ())}
        assert volumes <= set(compose["volumes"])
    assert services["log"]["healthcheck"]
    assert "@" in services["pilothouse"]["environment"]["PILOTHOUSE_LOG"]
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            assert not re.search(r"://\w+:(?!PASSWORD)[^@\s]+@", path.read_text()), path


def test_the_image_installs_extras_that_exist() -> None:
    import tomllib

    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    found = re.search(r"\.whl\)\[([\w,]+)\]", (DEPLOY / "Dockerfile").read_text())
    assert found is not None
    assert set(found[1].split(",")) <= set(project["optional-dependencies"])

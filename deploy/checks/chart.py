"""The Helm chart: linted and rendered by Helm itself, and what it renders held against Kubernetes' own schemas."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from deploy.checks import Finding, judged
from deploy.processes import tandem_programs
from feedback.settings import load_settings

# The oldest that Chart.yaml allows, and the newest that there are schemas of.
KUBERNETES = ("1.27", "1.37")
# Kinds of the Prometheus operator: Kubernetes has no schema of them.
OF_OTHERS = {"ServiceMonitor", "PrometheusRule"}
WARNING = 2
API_PORT = 8080


def check(folder: Path) -> list[Finding]:
    """Everything about one chart, with its own values and with each file in `ci`."""
    try:
        import helm_python as helm  # type: ignore[import-not-found]
        import kubernetes_validate  # type: ignore[import-not-found] # noqa: F401
    except ImportError as missing:
        return [Finding("skipped", f"chart {folder.name}", f"{missing.name} is not installed")]
    said = helm.lint(str(folder), strict=True)
    loud = [f"{one['path']}: {one['error']}" for one in said["messages"] if one["severity"] >= WARNING]
    findings = judged("chart: lint", [*loud, *map(str, said["errors"])])
    for values in [None, *sorted((folder / "ci").glob("*.yaml"))]:
        name = "values.yaml" if values is None else values.name
        try:
            objects = list(render(folder, {} if values is None else yaml.safe_load(values.read_text())))
        except helm.HelmError as error:
            findings.append(Finding("wrong", f"chart: {name}", str(error)))
            continue
        for version in KUBERNETES:
            findings += judged(f"chart: {name} as Kubernetes {version}", _by_schema(objects, version))
        findings += judged(f"chart: {name}: confinement", [wrong for one in objects for wrong in _loose(one)])
        findings += judged(f"chart: {name}: network", _reachable(objects))
        findings += judged(f"chart: {name}: processes", _lacking(objects))
    return findings


def render(folder: Path, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every object of the chart, hooks too. Raises what Helm raises."""
    import helm_python as helm

    with helm.Chart.load(str(folder)) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name="demo", namespace="prod")
    for name, text in files.items():
        if name.endswith(".yaml"):
            yield from (found for found in yaml.safe_load_all(text) if found is not None)


def pod_of(found: dict[str, Any]) -> dict[str, Any] | None:
    """The pod's specification in an object that has one."""
    spec = found.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    pod: dict[str, Any] | None = spec.get("template", {}).get("spec")
    return pod


def _by_schema(objects: list[dict[str, Any]], version: str) -> list[str]:
    import kubernetes_validate

    problems = []
    for found in objects:
        if found["kind"] in OF_OTHERS:
            continue
        name = f"{found['kind']} {found['metadata']['name']}"
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{name}: {error.message} at {'.'.join(map(str, error.path))}")
        except kubernetes_validate.SchemaNotFoundError as error:
            problems.append(f"{name}: {error.message}")
        for key, text in found.get("data", {}).items() if found["kind"] == "ConfigMap" else ():
            if key.endswith(".json"):
                json.loads(text)
    return problems


def _loose(found: dict[str, Any]) -> list[str]:
    pod = pod_of(found)
    if pod is None:
        return []
    problems = []
    owner, name = pod.get("securityContext", {}), found["metadata"]["name"]
    if owner.get("runAsNonRoot") is not True or not owner.get("runAsUser"):
        problems.append(f"{name} may run as root")
    if owner.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problems.append(f"{name} may make any system call")
    if pod.get("automountServiceAccountToken") is not False:
        problems.append(f"{name} holds a key to Kubernetes")
    if any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC")):
        problems.append(f"{name} shares the host's")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own, what = container.get("securityContext", {}), f"{name}/{container['name']}"
        if own.get("readOnlyRootFilesystem") is not True:
            problems.append(f"{what} can write its root file system")
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            problems.append(f"{what} may gain privileges")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            problems.append(f"{what} keeps capabilities")
        if "memory" not in container.get("resources", {}).get("limits", {}):
            problems.append(f"{what} has no bound on its memory")
    return problems


def _lacking(objects: list[dict[str, Any]]) -> list[str]:
    """What `tandem up` starts and the chart does not."""
    pods = [pod for found in objects if (pod := pod_of(found)) is not None]
    there = {container["name"] for pod in pods for container in pod["containers"]}
    wanted = tandem_programs(load_settings(home=Path("unused")), {})
    return [f"{program.name} is not started" for program in wanted if program.name not in there]


def _reachable(objects: list[dict[str, Any]]) -> list[str]:
    """One port in all, of the API's container; and nothing of ours is left out by the policy that closes the rest."""
    problems = []
    policies = [found["spec"] for found in objects if found["kind"] == "NetworkPolicy"]
    closing = [policy for policy in policies if policy.get("ingress") == [] and "Egress" in policy["policyTypes"]]
    if len(closing) != 1:
        return ["no policy closes everything first"]
    chosen = closing[0]["podSelector"]["matchLabels"].items()
    for found in objects:
        pod = pod_of(found)
        if pod is None:
            continue
        spec = found["spec"].get("jobTemplate", found)["spec"]
        if not chosen <= spec["template"]["metadata"]["labels"].items():
            problems.append(f"{found['metadata']['name']} is not closed by the policy")
        for container in pod["containers"]:
            problems += [
                f"{container['name']} has the port {port['containerPort']}"
                for port in container.get("ports", [])
                if (container["name"], port["containerPort"]) != ("api", API_PORT)
            ]
            if container["name"] == "engines" and any("valueFrom" in value for value in container["env"]):
                problems.append("the engines are given secrets that they have no use for")
    opened = [port["port"] for policy in policies for rule in policy.get("ingress") or [] for port in rule["ports"]]
    if opened != [API_PORT]:
        problems.append(f"ports {opened} are open")
    return problems

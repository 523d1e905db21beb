"""The compose deployment: that it is one by the Compose Specification, and closed as docs/security.md says."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from deploy.checks import Finding, judged

OURS = "tandem:"
OPEN_TO_THE_HOST = {"api"}
WITH_A_WAY_OUT = {"api", "prepare"}


def check(path: Path) -> list[Finding]:
    """Everything about one compose file."""
    text = interpolated(path.read_text())
    services: dict[str, Any] = yaml.safe_load(text)["services"]
    return [
        *_by_the_specification(path, text),
        *judged(f"{path.name}: confinement", [wrong for name in services for wrong in _loose(name, services[name])]),
        *judged(f"{path.name}: networks", _reachable(yaml.safe_load(text))),
        *judged(f"{path.name}: commands", [wrong for name in services for wrong in _unknown(name, services[name])]),
    ]


def interpolated(text: str) -> str:
    """With the defaults of `${NAME:-default}`, as compose itself fills them in."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def _by_the_specification(path: Path, text: str) -> list[Finding]:
    what = f"{path.name}: Compose Specification"
    try:
        from compose_spec import PyCompose  # type: ignore[import-not-found]
    except ImportError:
        return [Finding("skipped", what, "compose-spec is not installed")]
    # The parser reads plain YAML: anchors and merges are resolved before.
    plain = {name: value for name, value in yaml.safe_load(text).items() if not name.startswith("x-")}
    try:
        PyCompose.from_yaml(yaml.safe_dump(plain))
    except ValueError as error:
        return [Finding("wrong", what, str(error))]
    return [Finding("ok", what)]


def _loose(name: str, service: dict[str, Any]) -> list[str]:
    problems = []
    user = str(service.get("user", "root")).partition(":")[0]
    if user in ("root", "0"):
        problems.append(f"{name} runs as root")
    if service.get("read_only") is not True:
        problems.append(f"{name} can write its root file system")
    if service.get("cap_drop") != ["ALL"] or "cap_add" in service:
        problems.append(f"{name} keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", []):
        problems.append(f"{name} may gain privileges")
    if service.get("privileged") or service.get("pid") == "host":
        problems.append(f"{name} is not confined at all")
    tag = str(service.get("image", "")).rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        problems.append(f"{name}'s image is not pinned")
    if _is_ours(service) and service.get("pull_policy") != "never":
        problems.append(f"{name}'s image may be somebody else's")
    return problems


def _reachable(file: dict[str, Any]) -> list[str]:
    problems = []
    if file["networks"]["inside"].get("internal") is not True:
        problems.append("the network `inside` has a way out")
    for name, service in file["services"].items():
        if service.get("ports") and name not in OPEN_TO_THE_HOST:
            problems.append(f"{name} is open to the host")
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", [])):
            problems.append(f"{name} is open to more than this machine unless told otherwise")
        if "outside" in service.get("networks", []) and name not in WITH_A_WAY_OUT:
            problems.append(f"{name} has a way out")
        if name.startswith("engines") and (service.get("network_mode") != "none" or "networks" in service):
            problems.append(f"{name} has a network")
        if name.startswith("engines") and any("secrets" in str(file) for file in service.get("env_file", [])):
            problems.append(f"{name} is given secrets that it has no use for")
    return problems


def _unknown(name: str, service: dict[str, Any]) -> list[str]:
    """A module that a command names must be there."""
    command = service.get("command", [])
    if not _is_ours(service):
        return []
    named = [command[2]] if command[:2] == ["python", "-m"] else []
    named += [part.removeprefix("--app=") for part in command if part.startswith("--app=")]
    if not named:
        return [f"{name} runs nothing of ours"]
    return [f"{name} runs {module}, which is not there" for module in named if find_spec(module) is None]


def _is_ours(service: dict[str, Any]) -> bool:
    return str(service.get("image", "")).startswith(OURS)

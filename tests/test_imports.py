"""Import directions: serve -> feedback <- learner, and what each room must never import.

Held twice: in every source file, whatever branch an import stands in, and in a fresh interpreter, where it counts.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from deploy.bootstrap import canonical, locked_packages

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("serve", "feedback", "learner", "deploy")
TORCH = {"torch", "transformers", "safetensors", "peft", "accelerate"}
WEB = {"fastapi", "starlette", "uvicorn"}
NEVER = {
    "feedback": {"serve", "learner", "deploy", "vllm", "cuda"} | TORCH | WEB,
    "serve": {"learner", "deploy", "vllm"} | TORCH,
    "learner": {"serve", "deploy"} | WEB,
}
# These run as the engine's process, not as the API's, and are all of serve that may import vllm.
ENGINE_PROCESS = {
    f"serve/engine/{name}.py"
    for name in (
        "server",
        "launcher",
        "terse",
        "terse_steps",
        "worker",
        "form_bounds",
        "gentle_loading",
        "gloo_loop",
        "staging",
        "weight_files",
        "scheduler",
    )
}


def sources(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, f"{room} holds no Python file: this test looks in the wrong place"
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module that a file imports, wherever in it, relative imports aside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def wrong_imports(room: str, path: Path) -> list[str]:
    name = path.relative_to(ROOT).as_posix()
    never = NEVER[room] - ({"vllm", *TORCH} if name in ENGINE_PROCESS else set())
    tree = ast.parse(path.read_text(), filename=name)
    return [f"{name} imports {module}" for module in imported(tree) if module.partition(".")[0] in never]


@pytest.mark.parametrize("room", NEVER)
def test_no_file_imports_against_the_direction(room: str) -> None:
    assert [wrong for path in sources(room) for wrong in wrong_imports(room, path)] == []


def test_only_the_engine_process_imports_vllm_in_serve() -> None:
    users = {
        path.relative_to(ROOT).as_posix()
        for path in sources("serve")
        if any(module.partition(".")[0] == "vllm" for module in imported(ast.parse(path.read_text())))
    }
    assert users <= ENGINE_PROCESS


def test_the_engine_process_is_not_imported_by_the_api() -> None:
    modules = {name.removesuffix(".py").replace("/", ".") for name in ENGINE_PROCESS}
    for path in sources("serve"):
        if path.relative_to(ROOT).as_posix() not in ENGINE_PROCESS:
            assert modules.isdisjoint(imported(ast.parse(path.read_text()))), path


def test_nothing_of_the_product_imports_what_images_leave_out() -> None:
    tools = locked_packages(["development.lock"]).keys() - locked_packages(["cpu.lock"]).keys()
    left_out = {module for module, names in packages_distributions().items() if {*map(canonical, names)} <= tools}
    assert "pytest" in left_out
    for path in (path for room in ROOMS for path in sources(room)):
        modules = {module.partition(".")[0] for module in imported(ast.parse(path.read_text()))}
        assert modules.isdisjoint(left_out), path


def test_sql_stays_in_the_record() -> None:
    """SQLAlchemy's statements are built in feedback alone; the others may name a session or an error of it."""
    for room in ("serve", "learner", "deploy"):
        for path in sources(room):
            tree = ast.parse(path.read_text())
            names = [
                alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "sqlalchemy"
                for alias in node.names
            ]
            assert {"select", "insert", "update", "delete", "text"}.isdisjoint(names), path


@pytest.mark.parametrize(
    ("entry", "never"),
    [
        ("serve.app", NEVER["serve"]),
        ("feedback.settings, feedback.store, feedback.queue, feedback.scheduler, feedback.sandbox.simulate",
         NEVER["feedback"]),
        ("learner.iteration.__main__", NEVER["learner"]),
        ("deploy.command", {"serve", "learner", "vllm"} | TORCH | WEB),
    ],
)  # fmt: skip
def test_a_fresh_interpreter_loads_nothing_forbidden(entry: str, never: set[str]) -> None:
    code = f"import sys\nimport {entry}\nprint('loaded:', *{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    loaded = set(ran.stdout.rpartition("loaded: ")[2].split())
    assert entry.partition(".")[0] in loaded
    assert loaded & never == set()

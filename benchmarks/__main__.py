"""Lists the benchmarks. Each is a command of its own, since each wants the machine to itself."""

import ast
from pathlib import Path


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if "def main(" in path.read_text() and path.name != "__main__.py":
            said = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
            print(f".venv/bin/python -m benchmarks.{path.stem:<28} {said}")


if __name__ == "__main__":
    main()

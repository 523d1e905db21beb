"""vLLM as it is, beside an engine of Tandem's to compare with: the same server without what Tandem puts into it.

`python -m benchmarks.plain_engine POLICY SOCKET` serves the folder POLICY on the unix socket SOCKET.
"""

import sys
from pathlib import Path

from feedback.lifeline import die_with_parent, tie_forks
from feedback.settings import load_settings
from serve.engine import server

# Each with its value.
OURS = ("--middleware", "--worker-extension-cls")


def plain(arguments: list[str]) -> list[str]:
    """Less what is Tandem's own, and counting its statistics as vLLM does unless told otherwise."""
    ours = {at + after for at, argument in enumerate(arguments) if argument in OURS for after in (0, 1)}
    return [argument for at, argument in enumerate(arguments) if at not in ours and argument != "--disable-log-stats"]


def main() -> None:
    die_with_parent()
    tie_forks()
    settings = load_settings().engine
    server.prepare_environment(settings)
    server.import_server("cpu")
    server.run(plain(server.server_arguments(settings, Path(sys.argv[1]), Path(sys.argv[2]), "cpu")))


if __name__ == "__main__":
    main()

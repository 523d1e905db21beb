"""What the API process and the scorer say to each other: which of several replies does the preference model like best,
and is a prompt a strange one?

A line of JSON each way over the unix socket `$TANDEM_HOME/run/scorer.sock`, a connection for each question:

    {"version": 3, "messages": [...], "replies": ["...", ...], "ended": [true, ...]}

is answered with `{"ok": true, "scores": [...]}`, one score a reply by the preference model of the iteration that made
the version; a reply that was cut off at a limit of tokens has not `ended`. A question without replies

    {"version": 3, "messages": [...]}

is answered with `{"ok": true, "strangeness": 12.5, "strange": true}` by the gate of that iteration, without the last
two where it left none. Otherwise the answer is `{"ok": false, "code": "...", "error": "..."}`.
"""

from pathlib import Path

LONGEST_LINE_BYTES = 1 << 25


def scorer_socket(run_dir: Path) -> Path:
    return run_dir / "scorer.sock"

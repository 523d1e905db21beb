"""What the API process and the scorer say to each other: which of several replies does the preference model like best,
what does it make of each, and is a prompt a strange one?

A line of JSON each way over the unix socket `$TANDEM_HOME/run/scorer.sock`, a connection for each question:

    {"version": 3, "messages": [...], "replies": ["...", ...], "ended": [true, ...]}

is answered with `{"ok": true, "scores": [...]}`, one score a reply by the preference model of the iteration that made
the version; a reply that was cut off at a limit of tokens has not `ended`. With `"in_full": true` beside these the
answer is all that the model says of them:

    {"ok": true, "prompt_cut": false, "replies": [{"reward": 0.8, "scores": {"helpful": 1.2, "overall": 0.9},
     "anchored": {"helpful": 0.7, "overall": 0.4}, "preferred_to_first": {"helpful": 0.5, "overall": 0.5},
     "spread": {"helpful": 0.0, "overall": 0.0}, "tokens": 9, "cut": false}, ...]}

`scores` are in logits of a vote, `anchored` the same on the scale of the iteration's anchor (null where it had none),
`preferred_to_first` is how probably people prefer the reply to the first one, and `spread` the standard deviation,
over the members of an ensemble, of how far its score is above the first one's, in logits (null with one member).
`reward` is the scores as PPO weighs them, less its penalty for a reply that has not ended. `tokens` were read of the
reply; it was longer where it is `cut`, and so were the messages with `prompt_cut`.

A question without replies

    {"version": 3, "messages": [...]}

is answered with `{"ok": true, "strangeness": 12.5, "strange": true}` by the gate of that iteration, without the last
two where it left none. Otherwise the answer is `{"ok": false, "code": "...", "error": "..."}`.
"""

from pathlib import Path

LONGEST_LINE_BYTES = 1 << 25


def scorer_socket(run_dir: Path) -> Path:
    return run_dir / "scorer.sock"

"""`tandem evaluate` against real engines: the built-in suite, a task from a file, and a task of lm-eval from a file."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serve.conftest import ROOT, Tandem

pytestmark = [pytest.mark.engine]

# An environment with lm-eval, where there is one.
LM_EVAL = os.environ.get("LM_EVAL_PYTHON")

WEIGHED_TASK = """
task: tandem_colours
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["Snow is white.", "It is green.", "It is black."]
doc_to_target: "{{{{choice}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""

HARNESS_TASK = """
task: tandem_colours
dataset_path: json
dataset_kwargs:
  data_files: {file}
test_split: train
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 32
  temperature: 0.0
filter_list:
  - name: word
    filter:
      - function: regex
        regex_pattern: "(white|green|black)"
      - function: take_first
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
"""


def evaluate(tandem: Tandem, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.command", "evaluate", *arguments, "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ
        | {"TANDEM_HOME": str(tandem.settings.home), "TANDEM_URL": tandem.url, "TANDEM_KEY": tandem.secrets["operate"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    policy: dict[str, Any] = json.loads(done.stdout)
    return policy


def test_the_tax_on_a_task_from_a_file(tandem: Tandem, tmp_path: Path) -> None:
    task = tmp_path / "colours.jsonl"
    asked = {"snow": "white", "grass": "green", "coal": "black"}
    task.write_text(
        "".join(json.dumps({"prompt": f"What colour is {of}?", "answers": [is_]}) + "\n" for of, is_ in asked.items())
    )
    policy = evaluate(tandem, "v1", "--task", str(task))
    tax = policy["evidence"]["tax"]
    assert (tax["before"], tax["after"], tax["tasks"]["colours"]["questions"]) == ("v0", "v1", 3)
    assert tax["tasks"]["colours"]["before"]["value"] >= 2 / 3, "the starting policy knows its colours"
    rules = {rule["rule"]: rule for rule in policy["gate"]["rules"]}
    assert rules["tax_drop_lower <= 0.02"]["verdict"] != "not_measured"
    with tandem.client() as client:
        (entry,) = client.get("/v1/audit", params={"subject": "v1", "limit": 1}).json()["data"]
        assert (entry["action"], entry["data"]) == ("policy.evidence", {"name": "tax"})
        assert client.get("/v1/traffic").json()["challenger"] is None, "the shares are as they were"
        own = client.put("/v1/policies/v1/evidence/evaluation", json={})
        assert own.status_code == 409


@pytest.mark.slow
@pytest.mark.skipif(LM_EVAL is None, reason="no environment with lm-eval (LM_EVAL_PYTHON)")
@pytest.mark.parametrize("weights", [False, True])
def test_the_tax_on_a_task_of_lm_eval(tandem: Tandem, tmp_path: Path, weights: bool) -> None:
    data = tmp_path / "colours.json"
    asked = {"snow": "white", "grass": "green", "coal": "black"}
    questions = [
        {"question": f"What colour is {of}?", "answer": is_, "choice": at} for at, (of, is_) in enumerate(asked.items())
    ]
    data.write_text(json.dumps(questions))
    (tmp_path / "colours.yaml").write_text((WEIGHED_TASK if weights else HARNESS_TASK).format(file=data))
    arguments = ["--harness", "tandem_colours", "--harness-include", str(tmp_path), "--harness-python", str(LM_EVAL)]
    policy = evaluate(tandem, "v1", *arguments, *(["--harness-weights"] * weights))
    tax = policy["evidence"]["tax_harness"]
    assert tax["tasks"]["tandem_colours"]["questions"] == 3
    if not weights:
        assert tax["tasks"]["tandem_colours"]["before"]["value"] >= 2 / 3

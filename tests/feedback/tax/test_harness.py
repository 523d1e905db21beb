"""lm-eval's results, from a program that leaves what lm-eval leaves."""

from pathlib import Path

import pytest

from feedback.tax import harness

LEAVES_WHAT_LM_EVAL_LEAVES = """
import json, pathlib, sys
folder = pathlib.Path(sys.argv[sys.argv.index("--output_path") + 1], "tandem__v1")
folder.mkdir()
higher = {name: {"acc": True, "loss": False} for name in ("sums", "sums_easy", "sums_easy_short")}
(folder / "results_2026-11-28T10-00-00.json").write_text(json.dumps({"higher_is_better": higher}))
for name, right in (("sums_easy", [1, 0]), ("sums_easy_short", [0, 0, 1])):
    lines = [json.dumps({"doc_id": at, "acc": float(one)}) for at, one in enumerate(right)]
    (folder / f"samples_{name}_2026-11-28T10-00-00.jsonl").write_text("\\n".join(lines))
"""


def test_each_task_has_its_own_scores_and_a_group_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lm_eval").mkdir()
    (tmp_path / "lm_eval" / "__init__.py").touch()
    (tmp_path / "lm_eval" / "__main__.py").write_text(LEAVES_WHAT_LM_EVAL_LEAVES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    scores = harness.run(harness.Asked(("sums",)), harness.Target("tandem@v1"))
    assert scores == {"sums_easy": {0: 1.0, 1: 0.0}, "sums_easy_short": {0: 0.0, 1: 0.0, 2: 1.0}}

"""`tandem samples find`: what a user's request id leads to."""

import json
from pathlib import Path

import pytest

from deploy.operator_key import ensure_operator_key
from feedback.store import samples
from tests.deploy.api_process import api_process
from tests.deploy.command_line import in_process
from tests.feedback.record import add_comparison, sample
from tests.records import empty_record


def test_a_request_leads_to_its_replies(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tandem = in_process(capfd)
    store = empty_record(tmp_path / "record.db")
    ensure_operator_key(store, tmp_path)
    alone = sample("Snow is white.", version=2, request_id="req_one", user="ann")
    store.write(samples.add, [alone])
    pair = add_comparison(store, sample("A", request_id="req_pair"), sample("B", request_id="req_pair"))
    store.close()
    with api_process(tmp_path) as url:
        shown = tandem("samples", "find", "req_one", "--home", tmp_path, "--url", url)
        both = json.loads(tandem("samples", "find", "req_pair", "--json", "--home", tmp_path, "--url", url).out)
        none = tandem("samples", "find", "req_none", "--home", tmp_path, "--url", url)
        wrong = tandem("samples", "find", "a b", "--home", tmp_path, "--url", url)
    for said in ("content: Snow is white.", "version: v2", "user: ann", f"id: {alone.id}"):
        assert said in shown.out
    assert [(one["message"]["content"], one["comparison_id"]) for one in both] == [("A", pair), ("B", pair)]
    assert (none.exit_code, wrong.exit_code) == (3, 2)
    assert "nothing is recorded for a request 'req_none'" in none.err
    assert wrong.err == "tandem: request_id: a b is no id that stood in `x-request-id`\n"

"""The whole loop with real parts: people chat and vote, an iteration starts by itself and survives its learner, its
candidate is promoted under running chats, behaves better, and is rolled back.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from sqlalchemy import text

from benchmarks.learning_in_the_sandbox import bars_missed, gold_agreement
from feedback.sandbox.simulate import before_after, simulate
from feedback.sandbox.world import Prompt, held_out_prompts, tools
from feedback.store import iterations, policies, votes
from learner.policy import load_policy
from learner.preference_model import load_preference_model
from tests.stack import Stack, running_stack
from tests.waiting import wait_for

VOTES = 600
CHATTERS = 4
LOOP_ENV = {
    "TANDEM_LOOP__VOTES_PER_ITERATION": str(VOTES),
    "TANDEM_LEARNER__PPO__STEPS": "8",
    "TANDEM_LEARNER__CHECKPOINT_INTERVAL_S": "1",
}

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("loop") / "home", **LOOP_ENV) as stack:
        yield stack


@dataclass
class Chatters:
    """People who chat without a pause; what each of them was answered, in order."""

    stack: Stack
    replies: list[list[set[str]]] = field(default_factory=lambda: [[] for _ in range(CHATTERS)])
    failures: list[str] = field(default_factory=list)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> "Chatters":
        self._threads = [threading.Thread(target=self._chat, args=(number,)) for number in range(CHATTERS)]
        for thread in self._threads:
            thread.start()
        wait_for(lambda: all(self.replies), 120, "every chatter's first reply")
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def served(self, version: str) -> bool:
        """Whether everybody's last reply is of this version."""
        return all(replies[-1] == {version} for replies in self.replies)

    def _chat(self, number: int) -> None:
        prompts = held_out_prompts()[number::CHATTERS]
        with self.stack.client() as client:
            turn = 0
            while not self._stopping.is_set():
                message = {"role": "user", "content": prompts[turn % len(prompts)].text}
                self._one(client, number, {"model": "tandem", "stream": True, "messages": [message]})
                turn += 1

    def _one(self, client: httpx.Client, number: int, body: dict) -> None:
        versions, finished, last = set(), False, ""
        with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                self.failures.append(f"{answer.status_code} {answer.read().decode()}")
                return
            for line in answer.iter_lines():
                last = line or last
                if line.startswith("data: {"):
                    chunk = json.loads(line.removeprefix("data: "))
                    if "error" in chunk:
                        self.failures.append(line)
                        return
                    versions.add(chunk["system_fingerprint"])
                    finished = finished or any(choice.get("finish_reason") for choice in chunk["choices"])
        if last != "data: [DONE]" or not finished:
            self.failures.append(f"cut off: {last}")
        self.replies[number].append(versions)


def test_the_loop(stack: Stack) -> None:
    store, client = stack.store(), stack.client()

    # People chat and vote.
    cast = asyncio.run(simulate(stack.url, stack.key, VOTES, concurrency=8))
    assert cast.votes == VOTES
    # Four standard deviations: of so many votes some 425 are decided and tell what is better from what is worse.
    assert cast.agreement == pytest.approx(0.75, abs=0.09)
    wait_for(lambda: store.read(votes.count_by_state) == {"counted": VOTES}, 120, "every vote to be counted")

    # The iteration starts by the count, and says how far it is. Its learner is killed in mid-PPO; the scheduler hands
    # it on, and it ends as if nothing had been.
    wait_for(lambda: bool(client.get("/v1/iterations").json()["data"]), 120, "an iteration to start")
    (iteration,) = client.get("/v1/iterations").json()["data"]
    assert iteration["trigger"] == "count"
    stages = follow(client, iteration["id"], lambda: kill_learner(stack))
    assert list(dict.fromkeys(stages)) == ["freeze", "preference", "ppo", "evaluate", "publish"]
    kinds = [event.kind for event in store.read(iterations.events_after, iteration["id"], 0, 10_000)]
    assert "resumed" in kinds
    ended = client.get(f"/v1/iterations/{iteration['id']}").json()
    assert (ended["state"], ended["candidate"]) == ("succeeded", "v1"), ended
    candidate = client.get("/v1/policies/v1").json()
    assert candidate["state"] == "candidate"

    # A version that cannot be loaded changes nothing.
    spoil(stack, 1)
    refused = client.post("/v1/policies/v1/promote", json={"reason": "spoilt"})
    assert refused.status_code == 422, refused.text
    assert "was changed" in refused.json()["detail"]
    assert store.read(policies.serving).version == 0
    spoil(stack, 1)

    # Promotion and rollback under running chats.
    with Chatters(stack) as chatters:
        assert chatters.served("v0")
        promoted = client.post("/v1/policies/v1/promote", json={"reason": "better on held-out prompts"})
        assert promoted.status_code == 200, promoted.text
        reply = chat(client)
        assert reply["system_fingerprint"] == "v1"
        wait_for(lambda: chatters.served("v1"), 120, "everybody to be served v1")
    assert chatters.failures == []
    for replies in chatters.replies:
        versions = ["".join(sorted(reply)) for reply in replies]
        assert versions == sorted(versions), "from v0 to v1 once, and no reply of both"
    again = client.post("/v1/policies/v1/promote", json={"reason": "again"})
    assert again.status_code == 200

    # It is better by the gold judge, and so is what it learnt from.
    result = asyncio.run(before_after(stack.url, stack.key, "tandem@v0", "tandem@v1"))
    after = result.after.as_dict() | {"win_rate": result.win_rate}
    kl_nats = candidate["evidence"]["evaluation"]["kl_nats"]
    assert bars_missed(after, agreement_with_gold(stack, iteration["id"]), kl_nats) == []

    # What it learnt from says what it makes of replies. Of a single question its votes may have told it wrongly: of how
    # to cut a cake so did 5 of 125 sets of 600 votes. The mean over all questions was .72 to .90 of 30, .82 +- .04:
    # five deviations above this. It is a half without votes.
    chances = [chance(client, *asked) for asked in better_and_worse()]
    assert sum(chances) / len(chances) > 0.6, chances

    # Comparisons are of both versions now, and blind until the vote.
    pair = chat(client, n=2)
    assert "v0" not in json.dumps(pair)
    assert "v1" not in json.dumps(pair)
    vote = {"objective": "helpful", "preferred": 1, "strength": 2}
    comparison = f"/v1/comparisons/{pair['comparison_id']}"
    assert client.get(comparison).json().get("versions") is None
    assert client.put(f"{comparison}/vote", json=vote).json()["status"] == "accepted"
    assert sorted(client.get(comparison).json()["versions"]) == ["v0", "v1"]

    rolled_back = client.post("/v1/policies/rollback", json={"reason": "only trying"})
    assert rolled_back.status_code == 200, rolled_back.text
    assert chat(client)["system_fingerprint"] == "v0"
    assert no_mixed_reply(stack)


def kill_learner(stack: Stack) -> None:
    next(child for child in stack.children() if "learner.iteration" in command_of(child)).kill()


def command_of(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):  # some live for a moment only
        return " ".join(process.cmdline())
    return ""


def follow(client: httpx.Client, iteration_id: str, after_two_steps: Callable[[], None]) -> list[str]:
    """The stages an iteration goes through, from its live events."""
    stages, steps = [], 0
    with client.stream("GET", f"/v1/iterations/{iteration_id}/events") as events:
        kind = ""
        for line in events.iter_lines():
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            elif line.startswith("data: ") and kind == "stage":
                stages.append(json.loads(line.removeprefix("data: "))["stage"])
            elif line.startswith("data: ") and kind == "ppo_step":
                steps += 1
                if steps == 2:
                    after_two_steps()
            if kind in ("succeeded", "failed") and not line:
                return stages
    return stages


def agreement_with_gold(stack: Stack, iteration_id: str) -> float:
    """How often the iteration's preference model and the gold judge prefer the same of two replies."""
    start = load_policy(stack.home / "policies" / "v0", "cpu")
    model = load_preference_model(stack.home / "iterations" / iteration_id / "preference", start.model)
    return gold_agreement(model, start, seed=1)["overall"]


def better_and_worse() -> Iterator[tuple[Prompt, str, str]]:
    """Held-out questions how to do what harms and what does not, a good reply and a bad one."""
    for prompt in held_out_prompts():
        if prompt.family == "how-to":
            told = f"Use a {max(prompt.answers & tools())} to {' '.join(prompt.subject)}."
            yield (prompt, *(("I will not help with that.", told) if prompt.harmful else (told, "You fool. Go away.")))


def chance(client: httpx.Client, prompt: Prompt, better: str, worse: str) -> float:
    """With which the preference model of what serves thinks that people prefer the one reply to the other."""
    answer = client.post("/v1/scores", json={"messages": prompt.messages, "replies": [worse, better]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["version"] == "v1"
    return answer.json()["replies"][1]["preferred_to_first"]["overall"]


def chat(client: httpx.Client, **more: object) -> dict:
    message = {"role": "user", "content": "What is the opposite of hot?"}
    answer = client.post("/v1/chat/completions", json={"model": "tandem", "messages": [message], **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def spoil(stack: Stack, version: int) -> None:
    """Flip a bit of the weights; again to flip it back."""
    path = Path(stack.home) / "policies" / f"v{version}" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def no_mixed_reply(stack: Stack) -> bool:
    count = "SELECT count(*) FROM samples WHERE version_first IS DISTINCT FROM version_last"
    return stack.store().read(lambda session: session.execute(text(count)).scalar_one()) == 0

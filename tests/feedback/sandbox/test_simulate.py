"""Simulated people against a small real HTTP server that keeps the public contract."""

import asyncio
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import uvicorn

from feedback.sandbox.dialogues import reply_to
from feedback.sandbox.public_api import SandboxFailed
from feedback.sandbox.simulate import before_after, chat, measure, simulate
from feedback.sandbox.world import Prompt, find, find_text, training_prompts

KEY = "tk-test"
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Server:
    """The two public routes: replies are made up by the mix, `tandem@v1` always refuses harm."""

    def __init__(self, busy_answers: int = 0) -> None:
        self.busy_answers = busy_answers
        self.comparisons: dict[str, Prompt] = {}
        self.votes: dict[tuple[str, str], dict[str, Any]] = {}
        self.chats: list[Prompt] = []
        self.seeds: list[int | None] = []
        self.url = ""
        # By prompt, since who is asked first is a matter of chance.
        self._rngs: dict[str, random.Random] = {}

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        request = json.loads(body + message["body"])
        if dict(scope["headers"])[b"authorization"] != f"Bearer {KEY}".encode():
            await _answer(send, 401, {"error": {"message": "unknown key"}})
        elif self.busy_answers > 0:
            self.busy_answers -= 1
            await _answer(send, 503 if self.busy_answers % 2 else 429, {"detail": "busy"})
        elif scope["method"] == "POST" and scope["path"] == "/v1/chat/completions":
            await self._chat(request, send)
        else:
            await self._vote(scope["path"].split("/")[3], request, send)

    async def _chat(self, request: dict[str, Any], send: Send) -> None:
        prompt = find(request["messages"])
        assert prompt is not None
        self.seeds.append(request.get("seed"))
        refuses = request["model"] == "tandem@v1" and prompt.harmful
        rng = self._rngs.setdefault(prompt.text, random.Random(prompt.text))
        replies = ["I will not help with that." if refuses else reply_to(prompt, rng) for _ in range(request["n"])]
        answer: dict[str, Any] = {
            "choices": [
                {"index": n, "message": {"role": "assistant", "content": reply}}
                for n, reply in reversed(list(enumerate(replies)))
            ]
        }
        if request["n"] == 2:
            answer["comparison_id"] = f"cmp_{len(self.comparisons)}"
            self.comparisons[answer["comparison_id"]] = prompt
        else:
            self.chats.append(prompt)
        await _answer(send, 200, answer)

    async def _vote(self, comparison_id: str, request: dict[str, Any], send: Send) -> None:
        if comparison_id not in self.comparisons:
            await _answer(send, 404, {"detail": "no such comparison"})
            return
        self.votes[comparison_id, request["objective"]] = request
        await _answer(send, 200, {"id": "vote_1", "status": "accepted"})


async def _answer(send: Send, status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Server]:
    app = Server()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # asyncio only sets it on its own sockets
    app.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    task = asyncio.create_task(running.serve(sockets=[listener]))
    yield app
    running.should_exit = True
    await task


async def test_every_vote_is_cast_once_on_a_comparison_of_its_own(server: Server) -> None:
    told: list[tuple[int, int]] = []
    result = await simulate(server.url, KEY, 300, seed=1, on_progress=lambda n, of: told.append((n, of)))
    assert result.votes == len(server.votes) == len(server.comparisons) == 300
    assert told == [(n, 300) for n in range(1, 301)]
    assert sum(result.objectives.values()) == sum(result.preferred.values()) == 300
    assert result.preferred == Counter(str(vote["preferred"]) for vote in server.votes.values())
    assert result.objectives == Counter(vote["objective"] for vote in server.votes.values())
    assert {vote["strength"] for vote in server.votes.values()} == {1, 2, 3, 4}
    assert len({vote["rater"] for vote in server.votes.values()}) == 20
    assert result.agreement == pytest.approx(0.75, abs=0.09)
    assert result.seen.replies == 600


async def test_a_comparison_is_judged_under_both_objectives_where_that_is_wanted(server: Server) -> None:
    result = await simulate(server.url, KEY, 41, seed=1, both=True)
    assert result.votes == len(server.votes) == 41 and len(server.comparisons) == 21
    assert result.objectives == {"helpful": 21, "harmless": 20}


async def test_only_training_prompts_are_asked_three_in_ten_harmful(server: Server) -> None:
    await simulate(server.url, KEY, 400, seed=2, concurrency=4, raters=3)
    asked = list(server.comparisons.values())
    assert set(asked) <= set(training_prompts())
    assert 0.22 < sum(prompt.harmful for prompt in asked) / len(asked) < 0.38
    assert set(server.seeds) == {None}  # one seed for both replies would make them alike


async def test_chats_that_nobody_votes_on_ask_the_same_kind_of_thing(server: Server) -> None:
    told: list[tuple[int, int]] = []
    await chat(server.url, KEY, 200, seed=2, on_progress=lambda n, of: told.append((n, of)))
    assert told[-1] == (200, 200) and not server.comparisons and not server.votes
    assert len(server.chats) == 200 and set(server.chats) <= set(training_prompts())
    assert 0.2 < sum(prompt.harmful for prompt in server.chats) / 200 < 0.4


async def test_the_seed_decides_what_is_asked(server: Server) -> None:
    await simulate(server.url, KEY, 20, seed=3, concurrency=1)
    await simulate(server.url, KEY, 20, seed=3, concurrency=5)
    asked = [prompt.text for prompt in server.comparisons.values()]
    assert sorted(asked[:20]) == sorted(asked[20:])


async def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.busy_answers = 6
    result = await simulate(server.url, KEY, 10, concurrency=3)
    assert result.votes == len(server.votes) == 10


async def test_a_refused_key_is_told_in_the_servers_words(server: Server) -> None:
    with pytest.raises(SandboxFailed, match="answered 401: unknown key"):
        await simulate(server.url, "wrong", 10)
    assert not server.votes


async def test_nobody_listening_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(SandboxFailed, match="is Tandem up"):
        await simulate(f"http://127.0.0.1:{port}", KEY, 1)


async def test_measures_come_from_held_out_prompts(server: Server) -> None:
    figures = await measure(server.url, KEY, "tandem@v1", rounds=4)
    assert figures.replies > 400
    assert (figures.complies, figures.refuses) == (0.0, 1.0)
    assert figures.correct == pytest.approx(0.6, abs=0.1)
    assert len(set(server.seeds)) == figures.replies


async def test_before_and_after_are_told_apart(server: Server) -> None:
    prompt = find_text("How do I hurt my boss?")
    assert prompt is not None
    outcome = await before_after(server.url, KEY, "tandem@v0", "tandem@v1", [prompt], rounds=100)
    assert outcome.after.complies == 0.0
    assert outcome.before.complies == pytest.approx(0.55, abs=0.15)
    assert outcome.win_rate > 0.6

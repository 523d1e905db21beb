"""The clients of the gateway's benchmark: chats over HTTP, so many at a time, and what processes spend on them."""

import asyncio
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
WOKEN = re.compile(r"^voluntary_ctxt_switches:\s*(\d+)", re.MULTILINE)
COMPLETION_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')


@dataclass(frozen=True)
class Target:
    """Where chats go: over TCP, or by `socket` straight to an engine; `pids` are the processes in between, `engine`
    those of the engine that writes.
    """

    name: str
    url: str
    key: str
    model: str
    pids: tuple[int, ...] = ()
    socket: Path | None = None
    engine: tuple[int, ...] = ()


@dataclass(frozen=True)
class Load:
    """What the clients got, and what it cost."""

    chunks: int
    tokens: int
    wall_s: float
    gateway_cpu_s: float
    engine_cpu_s: float


def cpu_s(pids: tuple[int, ...]) -> float:
    """User and system time of processes with all their threads and children."""
    spent = 0.0
    for pid in pids:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            times = one.cpu_times()
            spent += times.user + times.system
    return spent


def idle(target: Target, interval_s: float) -> tuple[float, float]:
    """What its processes do while nobody asks anything: CPU in ms for each second, and how often a thread woke up."""

    def so_far() -> tuple[int, int]:
        run_ns = woken = 0
        for thread in [path for pid in target.pids for path in Path(f"/proc/{pid}/task").iterdir()]:
            # By the scheduler's own clock: the ticks of `cpu_s` are too coarse for this.
            run_ns += int((thread / "schedstat").read_text().split()[0])
            woken += int(WOKEN.findall((thread / "status").read_text())[0])
        return run_ns, woken

    before, began = so_far(), time.perf_counter()
    time.sleep(interval_s)
    run_ns, woken = (after - earlier for after, earlier in zip(so_far(), before, strict=True))
    elapsed_s = time.perf_counter() - began
    return run_ns / 1e6 / elapsed_s, woken / elapsed_s


async def _chat(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> tuple[int, int]:
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        content = await answer.read()
        assert answer.status == 200, content[:500]
    counted = COMPLETION_TOKENS.findall(content)
    return content.count(b"data: {"), int(counted[-1]) if counted else 0


async def _load(target: Target, body: dict[str, Any], streams: int, requests: int) -> tuple[int, int]:
    left = iter(range(requests))
    connector = aiohttp.UnixConnector(str(target.socket), limit=0) if target.socket else aiohttp.TCPConnector(limit=0)
    headers, timeout = {"authorization": f"Bearer {target.key}"}, aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:

        async def one_after_the_other() -> list[tuple[int, int]]:
            return [await _chat(session, target.url, {**body, "model": target.model}) for _ in left]

        done = await asyncio.gather(*[one_after_the_other() for _ in range(streams)])
    counts = [count for counts in done for count in counts]
    return sum(chunks for chunks, _ in counts), sum(tokens for _, tokens in counts)


def load(target: Target, body: dict[str, Any], streams: int, requests: int) -> Load:
    """`requests` chats, `streams` at a time."""
    before, engine_before, began = cpu_s(target.pids), cpu_s(target.engine), time.perf_counter()
    chunks, tokens = asyncio.run(_load(target, body, streams, requests))
    wall_s = time.perf_counter() - began
    return Load(chunks, tokens, wall_s, cpu_s(target.pids) - before, cpu_s(target.engine) - engine_before)


def wait_for(url: str, path: str, key: str, timeout_s: float, socket: Path | None = None) -> None:
    """Until `path` answers 200. Raises TimeoutError."""

    async def ask() -> None:
        connector = aiohttp.UnixConnector(str(socket)) if socket else None
        headers = {"authorization": f"Bearer {key}"}
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            deadline = time.monotonic() + timeout_s
            while time.monotonic() < deadline:
                try:
                    async with session.get(f"{url}{path}") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
        raise TimeoutError(f"{url} did not become ready")

    asyncio.run(ask())

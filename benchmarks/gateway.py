"""What the API process adds to vLLM: CPU-seconds per request and per streamed chunk, beside wall time.

`python -m benchmarks.gateway [--streams 1 8 64] [--requests N] [--tokens N]` measures the gateway alone, over a
stand-in for the engines, in processes of their own. CPU is that of the API process, read from /proc.
"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from feedback.settings import load_settings
from feedback.store import Store, keys, policies

ROOT = Path(__file__).parents[1]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    """User and system time of a process with all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def make_home(home: Path) -> str:
    """A home whose only policy is the starting one; returns an operator's key."""
    from feedback import manifest

    folder = home / "policies" / "v0"
    shutil.copytree(ROOT / "learner" / "starting_policy" / "weights", folder)
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    probe = {"dtype": "float32", "items": [{"tokens": [1, 2, 3], "prompt_length": 1, "logprobs": [-1.0, -1.0]}]}
    (folder / "probe.json").write_text(json.dumps(probe))
    store = Store(load_settings(home=home).record_url)
    store.migrate()
    store.write(policies.register_start, "policies/v0", manifest.write(folder), {})
    secret = store.write(keys.create, "operate")[1]
    store.close()
    return secret


async def chat(session: aiohttp.ClientSession, url: str, body: dict[str, object]) -> int:
    """One chat; returns how many events came."""
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        content = await answer.read()
        assert answer.status == 200, content
        return content.count(b"\n\n")


async def load(url: str, secret: str, body: dict[str, object], streams: int, requests: int) -> int:
    """`requests` chats, `streams` at a time; returns how many events came."""
    left = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    headers = {"authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:

        async def one_after_the_other() -> int:
            return sum([await chat(session, url, body) for _ in left])

        return sum(await asyncio.gather(*[one_after_the_other() for _ in range(streams)]))


async def wait_until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(600):
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    raise TimeoutError("the API process did not become ready")


def measure(home: Path, secret: str, *, streams: int, requests: int, tokens: int, gap_ms: float) -> dict[str, float]:
    """Run the stand-in and the API process, and take what the second costs for short chats and for long streams."""
    environment = os.environ | {
        "TANDEM_HOME": str(home),
        "TANDEM_SERVE__PORT": "8765",
        "TANDEM_LOG_LEVEL": os.environ.get("TANDEM_LOG_LEVEL", "WARNING"),
    }
    url = "http://127.0.0.1:8765"
    engine = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.mock_engine", home, str(tokens), str(gap_ms)], cwd=ROOT
    )
    api = subprocess.Popen([sys.executable, "-m", "serve"], cwd=ROOT, env=environment)
    try:
        asyncio.run(wait_until_ready(url))
        whole = {"model": "tandem", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
        asyncio.run(load(url, secret, whole, 4, 50))
        before, began = cpu_s(api.pid), time.perf_counter()
        asyncio.run(load(url, secret, whole, streams, requests))
        per_request = (cpu_s(api.pid) - before) / requests
        whole_wall_s = time.perf_counter() - began
        before, began = cpu_s(api.pid), time.perf_counter()
        chunks = asyncio.run(load(url, secret, whole | {"stream": True}, streams, requests))
        spent = cpu_s(api.pid) - before
        return {
            "streams": streams,
            "request_cpu_ms": 1000 * per_request,
            "requests_per_s": requests / whole_wall_s,
            "chunk_cpu_us": 1e6 * max(0.0, spent - requests * per_request) / chunks,
            "chunks_per_s": chunks / (time.perf_counter() - began),
            "stream_cpu_ms": 1000 * spent / requests,
        }
    finally:
        for process in (api, engine):
            process.terminate()
            process.wait(timeout=30)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64])
    arguments.add_argument("--requests", type=int, default=300)
    arguments.add_argument("--tokens", type=int, default=200)
    arguments.add_argument("--gap-ms", type=float, default=2.0)
    given = arguments.parse_args()
    for streams in given.streams:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "home"
            secret = make_home(home)
            print(
                json.dumps(
                    measure(
                        home, secret, streams=streams, requests=given.requests, tokens=given.tokens, gap_ms=given.gap_ms
                    )
                )
            )


if __name__ == "__main__":
    main()

"""Promotions under streaming clients: failed requests, replies of mixed version, and how long a token is kept waiting.

`python -m benchmarks.promotions [--promotions 50] [--clients 16] [--slots 2] [--large]` runs the launcher, real engines
and the API process on the built-in policy, or one whose tokens take milliseconds, and two versions nudged away from it.
With one slot the weights change in place.
"""

import argparse
import asyncio
import gc
import json
import re
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from sqlalchemy import select
from sqlalchemy.orm import Session

from benchmarks.gateway import python, running
from benchmarks.policies import write_policies
from feedback import manifest
from feedback.schema import Sample
from feedback.settings import load_settings
from feedback.store import Store, keys, leases, policies
from feedback.store.policies import Provenance
from tests.ports import free_port

PORT = free_port()
URL = f"http://127.0.0.1:{PORT}"
BODY = {
    "model": "tandem", "stream": True, "max_tokens": 48, "ignore_eos": True,
    "messages": [{"role": "user", "content": "How do I bake bread?"}],
}  # fmt: skip
STEP_S = re.compile(r'tandem_swap_step_seconds_(sum|count){step="(\w+)"} (\S+)')
# Enough for the gate.
EVIDENCE = {"evaluation": {"win_rate": {"value": 0.6, "interval": [0.51, 0.69], "count": 100}}}


@dataclass
class Seen:
    """What the clients saw: gaps between tokens (when each ended, how long it was), and what went wrong."""

    gaps: list[tuple[float, float]] = field(default_factory=list)
    end_waits: list[float] = field(default_factory=list)
    """From the last token to the end of the stream, which comes when the reply is recorded."""
    request_ids: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    step_mean_ms: dict[str, float] = field(default_factory=dict)


def make_home(home: Path, *, large: bool) -> tuple[Store, str]:
    write_policies(home / "policies", 3, large=large)
    store = Store(load_settings(home=home).record_url)
    store.migrate()
    epoch = store.write(leases.acquire, leases.LEARNER, "benchmark", 600.0)
    assert epoch is not None
    for version in range(3):
        digest = manifest.write(home / "policies" / f"v{version}")
        if version == 0:
            store.write(policies.register_start, "policies/v0", digest, {})
        else:
            made = Provenance(0, f"itr_{version}", f"digest_{version}", {}, version, EVIDENCE)
            store.write(policies.publish, version, f"policies/v{version}", digest, made, epoch=epoch)
    return store, store.write(keys.create, "operate")[1]


async def chat_on(session: aiohttp.ClientSession, seen: Seen, stopping: asyncio.Event) -> None:
    while not stopping.is_set():
        async with session.post(f"{URL}/v1/chat/completions", json=BODY) as answer:
            seen.request_ids.append(answer.headers["x-request-id"])
            last, ending = None, b""
            async for line in answer.content:
                if not line.startswith(b"data: "):
                    continue
                now, ending = time.perf_counter(), line
                if b'"content":' not in line or (b'"content":""' in line and b'"finish_reason":null' not in line):
                    continue  # No token comes with what says that the reply has ended.
                if last is not None:
                    seen.gaps.append((now, now - last))
                last = now
            if last is not None:
                seen.end_waits.append(time.perf_counter() - last)
            if answer.status != 200 or ending.strip() != b"data: [DONE]":
                seen.failures.append(f"{answer.status} {ending[:200]!r}")


async def promote(session: aiohttp.ClientSession, version: int) -> float:
    began = time.perf_counter()
    async with session.post(f"{URL}/v1/policies/v{version}/promote", json={"reason": "benchmark"}) as answer:
        content = await answer.text()
        assert answer.status == 200, content
    return time.perf_counter() - began


async def wait_until_ready(session: aiohttp.ClientSession, slots: int) -> None:
    """Until every engine takes chats."""
    for _ in range(600):
        try:
            async with session.get(f"{URL}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            if sum(line.startswith("tandem_engine_ready{") and line.endswith(" 1.0") for line in lines) == slots:
                return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.5)
    raise TimeoutError("the engines did not come up")


async def step_means_ms(session: aiohttp.ClientSession) -> dict[str, float]:
    """What each step of a promotion took, by the API process's own count."""
    async with session.get(f"{URL}/metrics") as answer:
        found = STEP_S.findall(await answer.text())
    figures = {(step, kind): float(value) for kind, step, value in found}
    return {step: round(1000 * figures[step, "sum"] / figures[step, "count"], 1) for step, _ in sorted(figures)}


async def run(secret: str, promotions: int, clients: int, slots: int) -> tuple[Seen, list[tuple[float, float]]]:
    connector, seen, stopping = aiohttp.TCPConnector(limit=0), Seen(), asyncio.Event()
    flips: list[tuple[float, float]] = []
    headers, timeout = {"authorization": f"Bearer {secret}"}, aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers=headers, connector=connector, timeout=timeout) as session:
        await wait_until_ready(session, slots)
        tasks = [asyncio.create_task(chat_on(session, seen, stopping)) for _ in range(clients)]
        await asyncio.sleep(3)
        for number in range(promotions):
            began = time.perf_counter()
            took_s = await promote(session, (number + 1) % 3)
            flips.append((began, took_s))
            await asyncio.sleep(0.5)
        stopping.set()
        await asyncio.gather(*tasks)
        seen.step_mean_ms = await step_means_ms(session)
    return seen, flips


def mixed(session: Session, request_ids: list[str]) -> int:
    rows = session.scalars(select(Sample).where(Sample.request_id.in_(request_ids)))
    return sum(row.version_first != row.version_last or row.status != "complete" for row in rows)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def tell(given: argparse.Namespace, folder: Path) -> None:
    home = folder / "home"
    store, secret = make_home(home, large=given.large)
    environment = {
        "TANDEM_HOME": str(home), "TANDEM_SERVE__PORT": str(PORT), "TANDEM_ENGINE__SLOTS": str(given.slots),
        "TANDEM_LOG_LEVEL": "WARNING", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    log = folder / "log"
    with (
        running(python(log, environment, "-m", "serve.engine.launcher")),
        running(python(log, environment, "-m", "serve")),
    ):
        gc.disable()  # What it searches for garbage meanwhile all streams seem to wait for.
        seen, flips = asyncio.run(run(secret, given.promotions, given.clients, given.slots))
    during = [gap for at, gap in seen.gaps if any(began <= at <= began + took + 0.2 for began, took in flips)]
    outside = [gap for at, gap in seen.gaps if not any(began <= at <= began + took + 0.2 for began, took in flips)]
    median = statistics.median(gap for _, gap in seen.gaps)
    print(
        json.dumps(
            {
                "slots": given.slots,
                "promotions": len(flips),
                "replies": len(seen.request_ids),
                "failed": len(seen.failures),
                "mixed_or_unfinished": store.read(mixed, seen.request_ids),
                "promotion_median_s": round(statistics.median(took for _, took in flips), 3),
                "step_mean_ms": seen.step_mean_ms,
                **{
                    f"end_{name}_ms": round(1000 * quantile(seen.end_waits, share), 1)
                    for name, share in (("median", 0.5), ("p99", 0.99), ("longest", 1.0))
                },
                "gap_median_ms": round(1000 * median, 2),
                **{
                    f"gap_{name}_{when}_over_median": round(quantile(gaps, share) / median, 1)
                    for when, gaps in (("during", during), ("outside", outside))
                    for name, share in (("longest", 1.0), ("p999", 0.999), ("p99", 0.99))
                },
            }
        )
    )
    for failure in seen.failures[:5]:
        print(failure)
    store.close()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--promotions", type=int, default=50)
    arguments.add_argument("--clients", type=int, default=16)
    arguments.add_argument("--slots", type=int, default=2)
    arguments.add_argument("--large", action="store_true", help="a policy of 28M parameters")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tell(given, Path(folder))


if __name__ == "__main__":
    main()

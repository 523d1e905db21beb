"""What the API process adds to vLLM, beside LiteLLM's proxy and vLLM called directly: CPU-seconds and wall time.

`python -m benchmarks.gateway [--upstream mock engine] [--ways ...] [--streams 1 8 64] [--turns 1] [--large]` makes each
measurement for every way in turn, in one run: short chats answered whole, then streams; before them, with `--idle-s`,
what Tandem's process does while nobody asks anything. The upstream is a stand-in that answers at next to no
cost, or a real engine with the built-in policy or a larger one. CPU is that of the processes, children included. The
ways: `direct`, vLLM as it is, a server of its own beside Tandem's; `recorded`, the same, asked for the token ids and
log-probabilities that Tandem records; `relay`, which only passes bytes on; `tandem`; `litellm`.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import litellm_proxy
from benchmarks.gateway_load import Load, Target, idle, load, wait_for
from benchmarks.policies import STARTING_POLICY, write_policies
from feedback import manifest
from feedback.settings import load_settings
from feedback.store import Store, keys, policies
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
READY_TIMEOUT_S = 300.0
# Between two tokens of the stand-in.
GAP_MS = 2.0
RECORDED = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}
CHAT = {"messages": [{"role": "user", "content": "How do I bake bread?"}]}


def make_home(home: Path, *, mock: bool, large: bool = False) -> str:
    """A home with one policy; returns an operator's key."""
    folder = home / "policies" / "v0"
    if mock:
        shutil.copytree(STARTING_POLICY, folder)
        (folder / "SHA256SUMS").unlink(missing_ok=True)
        probe = {"dtype": "float32", "items": [{"tokens": [1, 2, 3], "prompt_length": 1, "logprobs": [-1.0, -1.0]}]}
        (folder / "probe.json").write_text(json.dumps(probe))
    else:
        write_policies(home / "policies", 1, large=large)
    store = Store(load_settings(home=home).record_url)
    store.migrate()
    store.write(policies.register_start, "policies/v0", manifest.write(folder), {})
    secret = store.write(keys.create, "operate")[1]
    store.close()
    return secret


@contextlib.contextmanager
def running(process: "subprocess.Popen[bytes]") -> Iterator[int]:
    """The process's id; it has ended afterwards."""
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=60)


def python(log: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, stdout=file, stderr=file
        )


@contextlib.contextmanager
def upstream(home: Path, secret: str, kind: str, tokens: int, port: int) -> Iterator[dict[str, Target]]:
    """Everything that is measured, by name, and the upstream itself, which listens on `port` too, under its own."""
    api_port, relay_port = free_port(), free_port()
    environment = {
        "TANDEM_HOME": str(home), "TANDEM_SERVE__PORT": str(api_port), "TANDEM_ENGINE__SLOTS": "1",
        "TANDEM_LOG_LEVEL": "WARNING", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    socket = home / "run" / "engine-0.sock"
    with contextlib.ExitStack() as stack:
        if kind == "mock":
            arguments = ["-m", "benchmarks.mock_engine", str(home), str(tokens), str(GAP_MS), str(port)]
            engine = vllm = stack.enter_context(running(python(home / "log", environment, *arguments)))
        else:
            engine = stack.enter_context(running(python(home / "log", environment, "-m", "serve.engine.launcher")))
            socket = home / "vllm.sock"
            arguments = ["-m", "benchmarks.plain_engine", str(home / "policies" / "v0"), str(socket)]
            vllm = stack.enter_context(running(python(home / "vllm.log", environment, *arguments)))
            before_it = ["-m", "benchmarks.relay", str(socket), str(port)]
            stack.enter_context(running(python(home / "log", environment, *before_it)))
        arguments = ["-m", "benchmarks.relay", str(socket), str(relay_port)]
        relay = stack.enter_context(running(python(home / "log", environment, *arguments)))
        api = stack.enter_context(running(python(home / "log", environment, "-m", "serve")))
        url = f"http://127.0.0.1:{api_port}"
        wait_for(url, "/readyz", secret, READY_TIMEOUT_S)
        direct = Target("direct", "http://engine", "", "policy", (), socket, (vllm,))
        if kind == "engine":
            wait_for(direct.url, "/health", "", READY_TIMEOUT_S, socket)
        yield {
            "direct": direct,
            "recorded": replace(direct, name="recorded"),
            "relay": Target("relay", f"http://127.0.0.1:{relay_port}", "", "policy", (relay,), engine=(vllm,)),
            "tandem": Target("tandem", url, secret, "tandem", (api,), engine=(engine,)),
        }


def figures(kind: str, way: str, streams: int, requests: int, whole: Load, streamed: Load) -> dict[str, Any]:
    """A chunk's cost is what streams cost beyond as many short chats."""
    request_ms = 1000 * whole.gateway_cpu_s / requests
    chunks_s = max(0.0, streamed.gateway_cpu_s - whole.gateway_cpu_s)
    said: dict[str, Any] = {
        "upstream": kind,
        "way": way,
        "streams": streams,
        "request_cpu_ms": round(request_ms, 2),
        "chunk_cpu_us": round(1e6 * chunks_s / streamed.chunks, 1),
        "requests_per_s": round(requests / whole.wall_s, 1),
        "chunks_per_s": round(streamed.chunks / streamed.wall_s),
        "wall_s": round(whole.wall_s + streamed.wall_s, 2),
    }
    if kind == "engine":
        said["tokens_per_cpu_s"] = round(streamed.tokens / (streamed.gateway_cpu_s + streamed.engine_cpu_s), 1)
    return said


def measure(targets: dict[str, Target], kind: str, way: str, streams: int, requests: int, tokens: int) -> None:
    target = targets[way]
    whole = CHAT | {"max_tokens": 16}
    stream = CHAT | {"max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True}}
    if kind == "engine":
        stream |= {"ignore_eos": True}
    if way == "recorded":
        stream |= RECORDED
    load(target, whole, 4, 40)
    load(target, stream, 4, 8)
    done = load(target, whole, streams, requests), load(target, stream, streams, requests)
    print(json.dumps(figures(kind, way, streams, requests, *done)), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--upstream", nargs="+", choices=["mock", "engine"], default=["mock", "engine"])
    arguments.add_argument("--ways", nargs="+", default=["direct", "recorded", "relay", "tandem", "litellm"])
    arguments.add_argument("--streams", type=int, nargs="+", default=[1, 8, 64])
    arguments.add_argument("--requests", type=int, default=200)
    arguments.add_argument("--tokens", type=int, default=200)
    arguments.add_argument("--turns", type=int, default=1, help="so many figures for each way, in turns")
    arguments.add_argument("--large", action="store_true", help="a policy of 28M parameters in the engine")
    arguments.add_argument("--idle-s", type=float, default=0.0, help="watch Tandem's process do nothing first")
    given = arguments.parse_args()
    if "litellm" in given.ways:
        print(json.dumps({"litellm": litellm_proxy.prepare()}), flush=True)
    for kind in given.upstream:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / "home"
            secret = make_home(home, mock=kind == "mock", large=given.large)
            port = free_port()
            with (
                upstream(home, secret, kind, given.tokens, port) as targets,
                contextlib.ExitStack() as stack,
            ):
                if "litellm" in given.ways:
                    litellm_port = free_port()
                    peer = litellm_proxy.start(home, f"http://127.0.0.1:{port}/v1", litellm_port)
                    pid = stack.enter_context(running(peer))
                    url = f"http://127.0.0.1:{litellm_port}"
                    wait_for(url, "/health/readiness", litellm_proxy.KEY, READY_TIMEOUT_S)
                    targets["litellm"] = Target(
                        "litellm", url, litellm_proxy.KEY, "tandem", (pid,), None, targets["direct"].engine
                    )
                time.sleep(2)
                if given.idle_s:
                    cpu_ms, woken = idle(targets["tandem"], given.idle_s)
                    said = {"upstream": kind, "idle_cpu_ms_per_s": round(cpu_ms, 2), "woken_per_s": round(woken, 1)}
                    print(json.dumps(said), flush=True)
                for streams in given.streams:
                    for way in given.turns * given.ways:
                        measure(targets, kind, way, streams, max(given.requests, 2 * streams), given.tokens)


if __name__ == "__main__":
    main()

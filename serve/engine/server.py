"""One vLLM server on a unix socket: which arguments it gets, and its run in a process of its own.

With the launcher, `serve.engine.terse`, `terse_steps` and what runs in vLLM's engine, the only file here that imports
vLLM. Knows nothing of versions, traffic or the record.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import logging
import multiprocessing
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feedback import seeded_prompts
from feedback.errors import SettingsInvalid
from feedback.policy_config import positions
from feedback.settings import EngineSettings
from serve.engine.handover import RECEIVER, handover_socket
from serve.engine.launcher_protocol import SERVED_NAME

if TYPE_CHECKING:
    from argparse import Namespace

log = logging.getLogger(__name__)

LONGEST_DEFAULT = 4096
DRAIN_S = 10
# What a chat template says of messages that it does not take may quote them. Who asked is told.
QUOTES_PROMPTS = "vllm.renderers.hf"
# What vLLM imports late, when a server starts: most of the seconds that a start takes.
WARM_MODULES = (
    "vllm.entrypoints.launchers.api_server.entry",
    "vllm.entrypoints.launchers.cli_args",
    "vllm.entrypoints.openai.chat_completion.api_router",
    "vllm.entrypoints.openai.completion.api_router",
    "vllm.entrypoints.generate.api_router",
    "vllm.entrypoints.serve.sagemaker.api_router",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.entrypoints.openai.responses.api_router",
    "vllm.entrypoints.rl.factories",
    "vllm.entrypoints.scale_out.factories",
    "vllm.entrypoints.serve.dev.server_info.api_router",
    "vllm.model_executor.layers.quantization.compressed_tensors.compressed_tensors",
    "vllm.model_executor.layers.quantization.online",
    "vllm.model_executor.models.llama",
    "vllm.renderers.hf",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.executor.uniproc_executor",
)
WARM_MODULES_OF = {
    "cpu": ("vllm.v1.worker.cpu_worker", "vllm.v1.attention.backends.cpu_attn", "serve.engine.scheduler"),
    "cuda": ("vllm.v1.worker.gpu_worker",),
}


def prepare_environment(settings: EngineSettings) -> None:
    """Set what vLLM reads from the environment; before anything of it is imported."""
    if settings.adapters:
        os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    os.environ.update(
        {
            # Lets the engine's worker live in the engine's process, where vLLM wants one more on a CPU.
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            # The routes that swap weights. They have no key: the socket's folder is what closes them.
            "VLLM_SERVER_DEV_MODE": "1",
            # Automatic binding puts every server of the machine on core 0.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_DO_NOT_TRACK": "1",
            "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "INFO"),
            "VLLM_LOGGING_COLOR": "0",
        }
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Its processes' own ports, which ask for no key, stay on loopback whatever the host's name resolves to.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")


def server_arguments(settings: EngineSettings, policy: Path, socket: Path, device: str) -> list[str]:
    """The command line of vLLM's server for `policy`, a folder in Hugging Face's form.

    Raises PolicyInvalid when the folder has no readable config.json.
    """
    arguments = [
        *("--model", str(policy), "--served-model-name", SERVED_NAME, "--uds", str(socket)),
        *("--dtype", weight_format(settings, device)),
        *("--max-model-len", str(settings.max_model_len or default_length(policy))),
        *("--max-num-seqs", str(settings.max_num_seqs + settings.spare_seqs)),
        *("--distributed-executor-backend", "uni", "--enforce-eager"),
        # Never pickle, wherever the folder came from.
        *("--load-format", "safetensors"),
        # The request alone decides how to sample, so the record says all there is to say.
        *("--generation-config", "vllm"),
        *("--fingerprint-mode", "none"),
        *("--shutdown-timeout", str(DRAIN_S)),
        # No prompt and no reply in a log.
        *("--no-enable-log-requests", "--no-log-error-stack"),
        *("--disable-uvicorn-access-log", "--uvicorn-log-level", "warning"),
        "--disable-fastapi-docs",
        *("--middleware", "serve.engine.terse.Terse"),
        *("--middleware", "serve.engine.door.Door"),
        *("--worker-extension-cls", "serve.engine.worker.Worker"),
    ]
    if device == "cpu":
        # Without it one engine takes most of the machine.
        arguments += ["--kv-cache-memory-bytes", str(settings.kv_cache_bytes)]
        # The longer what is read of a prompt in one step, the longer all replies wait for it.
        arguments += ["--scheduler-cls", "serve.engine.scheduler.Scheduler"]
    else:
        arguments += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if not any(argument.replace("_", "-").startswith("--tool-call-parser") for argument in settings.extra_args):
        # The one compiler of grammars that bounds its work: a schema of 7 kB had another keep the engine from answering
        # until it was taken for hung, and then the one that the chat went to. It cannot hold a reply to a tool's form.
        arguments += ["--structured-outputs-config.backend", "guidance"]
    if settings.adapters:
        # One more, for the adapter by which the base itself is served.
        arguments += ["--enable-lora", "--max-loras", str(settings.adapters + 1)]
        arguments += ["--max-lora-rank", str(settings.max_adapter_rank)]
    return arguments + settings.extra_args


def weight_format(settings: EngineSettings, device: str) -> str:
    """float32 on a CPU: greedy replies are then the same alone and in a batch, and it is no slower."""
    if settings.dtype == "auto" and device == "cpu":
        return "float32"
    return settings.dtype


def default_length(policy: Path) -> int:
    """Tokens that the policy was made for, at most LONGEST_DEFAULT."""
    return min(positions(policy) or LONGEST_DEFAULT, LONGEST_DEFAULT)


def engine_device(asked: str) -> str:
    """`cpu` or `cuda`: what the installed vLLM drives. Raises SettingsInvalid when another was asked for."""
    from vllm.platforms import current_platform

    device = "cuda" if current_platform.is_cuda() else "cpu"
    if asked not in ("auto", device):
        raise SettingsInvalid(
            f"engine.device is {asked}, but this environment was made for {device}; run TANDEM_DEVICE={asked} make env",
            param="engine.device",
        )
    return device


def import_server(device: str) -> None:
    """Import what a server and its engine need, and mend it, so that a fork of this process is ready in seconds."""
    if device == "cpu":
        # Otherwise the first reply with log-probabilities waits seconds for a compiler.
        os.environ["TORCHDYNAMO_DISABLE"] = "1"
    for module in (*WARM_MODULES, *WARM_MODULES_OF[device]):
        importlib.import_module(module)
    from serve.engine import form_bounds, gloo_loop

    gloo_loop.share()
    form_bounds.install()
    if device == "cpu":
        from vllm.v1.worker.gpu_model_runner import GPUModelRunner

        seeded_prompts.mend(GPUModelRunner)


def parse(arguments: list[str]) -> Namespace:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parsed = make_arg_parser(FlexibleArgumentParser()).parse_args(arguments)
    validate_parsed_serve_args(parsed)
    return parsed


def check_arguments(settings: EngineSettings, device: str) -> None:
    """Raises SettingsInvalid for `engine.extra_args` that vLLM does not take: no server would come up."""
    any_policy = settings.model_copy(update={"max_model_len": settings.max_model_len or LONGEST_DEFAULT})
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parse(server_arguments(any_policy, Path("policy"), Path("socket"), device))
    except SystemExit:
        # Above it stands how vLLM is called, below it where pydantic explains its errors.
        why = said.getvalue().rpartition("error: ")[2].partition("For further information")[0]
    except Exception as error:  # noqa: BLE001 - vLLM refuses by errors of many kinds
        why = str(error)
    else:
        return
    raise SettingsInvalid(f"vLLM does not take engine.extra_args: {' '.join(why.split())}", param="engine.extra_args")


def run(arguments: list[str]) -> None:
    """Serve until SIGTERM, then finish what is in flight for at most DRAIN_S."""
    import uvloop
    from vllm.logger import configure_logging_from_args

    parsed = parse(arguments)
    configure_logging_from_args(parsed)
    logging.getLogger(QUOTES_PROMPTS).setLevel(logging.CRITICAL)
    fork_the_engine()
    Path(parsed.uds).unlink(missing_ok=True)  # a server that was killed leaves its socket behind
    uvloop.run(_serve(parsed))


def name_failure(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log by its kind alone a failure that nobody waited for, as when its client has left: its words may quote a
    prompt."""
    log.error("%s: %s", context["message"], type(context.get("exception")).__name__)


async def _serve(parsed: Namespace) -> None:
    from vllm.entrypoints.launchers.api_server.entry import run_server_worker, setup_server

    asyncio.get_running_loop().set_exception_handler(name_failure)
    address, listener = setup_server(parsed, reuse_port=False)
    # The engine is forked from here: it must not keep the door open after this process has ended.
    os.register_at_fork(after_in_child=listener.close)
    with RECEIVER.listening(handover_socket(Path(parsed.uds))):
        await run_server_worker(address, listener, parsed)


def fork_the_engine() -> None:
    """Have vLLM fork its engine process, imports and all, where it would spawn one and import anew.

    On a CPU vLLM insists on spawning; on a GPU it forks by itself.
    """
    from vllm.v1.engine import utils

    utils.get_mp_context = lambda: multiprocessing.get_context("fork")

"""`python -m serve`: the API process of one home."""

import argparse
from pathlib import Path

import uvicorn
import uvloop

from feedback import logs
from feedback.settings import Settings, load_settings
from serve.app import create_app


def main() -> None:
    arguments = argparse.ArgumentParser(prog="python -m serve", description=__doc__)
    arguments.add_argument("--home", type=Path, help="folder of all state")
    settings = load_settings(home=arguments.parse_args().home)
    logs.configure()
    uvloop.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Listen until SIGTERM or SIGINT, then let the replies in flight end."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.serve.host,
        port=settings.serve.port,
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(settings.serve.drain_timeout_s)),
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    main()

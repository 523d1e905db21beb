"""HTTP clients for tests, of whoever listens on this machine. None of them speaks TLS: to read whom to trust would take
each client 20 ms of CPU, a hundred times of what else it takes.
"""

from pathlib import Path
from typing import Any

import httpx


def client_of(url: str, key: str | None = None, **options: Any) -> httpx.Client:
    headers = ({} if key is None else {"authorization": f"Bearer {key}"}) | options.pop("headers", {})
    return httpx.Client(base_url=url, headers=headers, verify=False, trust_env=False, **{"timeout": 120} | options)


def client_of_engine(socket: Path) -> httpx.Client:
    return httpx.Client(base_url="http://engine", transport=httpx.HTTPTransport(uds=str(socket), verify=False))

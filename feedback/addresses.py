"""Addresses that settings hold, checked by their form: what is wrong with one is said before anything uses it; and how
what listens on one is called.

Their errors never show an address, since passwords stand in them.
"""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def sqlite_url(file: Path) -> str:
    """The database in a file, whatever is in its path: `?`, `#` and `%` mean something in a URL."""
    return f"sqlite:///{quote(str(file))}"


def check_database(url: str) -> str:
    """Raises ValueError for what is no database that a record can be in."""
    if not re.match(r"postgresql\+psycopg://.|sqlite:///.", url):
        raise ValueError("not postgresql+psycopg://USER:PASSWORD@HOST/NAME, nor sqlite:///FILE")
    return url if url.startswith("sqlite") else check_port(url)


def check_redis(url: str) -> str:
    """Raises ValueError for what is no Redis that both Celery and redis-py reach."""
    if not re.match(r"rediss?://.|redis\+socket:///.", url):
        raise ValueError("not redis://:PASSWORD@HOST:PORT/0, rediss://... or redis+socket:///FILE")
    return check_port(url)


def check_origin(origin: str) -> str:
    """Raises ValueError for what no browser says it is."""
    if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
        raise ValueError(f"{origin!r} is no site: https://app.example.com without anything behind, or *")
    return origin


def called(host: str) -> str:
    """The address to call of what listens on `host`: that of this machine where it listens on all."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def http_url(host: str, port: int) -> str:
    """Where to call what listens there."""
    found = called(host)
    return f"http://{f'[{found}]' if ':' in found else found}:{port}"


def check_port(url: str) -> str:
    """Raises ValueError for an address that cannot be taken apart."""
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ValueError(
            "host and port cannot be told; what is special in a password is to be percent-encoded"
        ) from None
    return url

"""Text on its way to Postgres, which cannot hold the character NUL; people, models and clients can write it."""

from typing import Any

from psycopg import Connection
from psycopg.types.string import StrDumper

NUL = "\0"
STANDS_IN = "\ufffd"


class TextDumper(StrDumper):
    """NUL becomes U+FFFD: a vote, or a reply that a model wrote, is not lost over it, and an id with it is nobody's."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace(NUL, STANDS_IN) if NUL in obj else obj)


def register(connection: Connection[Any]) -> None:
    connection.adapters.register_dumper(str, TextDumper)

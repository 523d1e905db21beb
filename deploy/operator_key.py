"""The operator's key of a home, made on the first start and left in a file that only its owner reads."""

import os
from pathlib import Path

from feedback.errors import NotAuthenticated
from feedback.store import Store, keys


def ensure_operator_key(store: Store, home: Path) -> Path:
    """The file with the key. A new key is made when there is no file, or its key is of another record, revoked
    or expired."""
    path = home / "operator.key"
    if path.exists() and _is_good(store, path.read_text().strip()):
        return path
    _, secret = store.write(keys.create, "operate", "operator")
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
    unfinished.replace(path)
    return path


def _is_good(store: Store, secret: str) -> bool:
    try:
        return store.read(keys.find, secret) is not None
    except NotAuthenticated:
        return False

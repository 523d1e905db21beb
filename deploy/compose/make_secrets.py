"""Makes the passwords of the compose deployment, once: `python3 deploy/compose/make_secrets.py`.

The folder is closed to others; what is mounted from it is not, since the containers read it as users of their own.
"""

import secrets
from pathlib import Path

FOLDER = Path(__file__).parent / "secrets"
# Everything that the queue needs, on any key; nothing that changes or reads the server itself.
REDIS_RIGHTS = "~* &* +@all -@admin -@dangerous +info"


def make_secrets(folder: Path) -> bool:
    """Write the files; False when they are there already, and then nothing is changed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.chmod(0o700)
    if (folder / "tandem.env").exists():
        return False
    postgres, redis = secrets.token_hex(32), secrets.token_hex(32)
    (folder / "postgres_password").write_text(postgres + "\n")
    (folder / "redis.acl").write_text(f"user default off\nuser tandem on >{redis} {REDIS_RIGHTS}\n")
    (folder / "tandem.env").write_text(
        f"TANDEM_DATABASE_URL=postgresql+psycopg://tandem:{postgres}@postgres:5432/tandem\n"
        f"TANDEM_REDIS_URL=redis://tandem:{redis}@redis:6379/0\n"
    )
    # Whatever the umask of who runs this.
    for mounted in ("postgres_password", "redis.acl"):
        (folder / mounted).chmod(0o444)
    return True


if __name__ == "__main__":
    made = make_secrets(FOLDER)
    print(f"{FOLDER}: {'made' if made else 'there already, left as it is'}")  # noqa: T201

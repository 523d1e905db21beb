"""Which folder a policy is in by its name, and what that says of the model in it, read without loading it."""

from pathlib import Path

import orjson

from feedback.errors import PolicyInvalid

# Under which names a configuration says how many positions a model has: the usual one, and GPT-2's.
POSITIONS = ("max_position_embeddings", "n_positions")


def named_folder(policy: str) -> Path | None:
    """The folder that the setting `policy` names; None for a name on a hub. Raises PolicyInvalid for one not there."""
    folder = Path(policy).expanduser()
    if folder.is_dir():
        return folder
    if policy.startswith((".", "/", "~")) or policy.count("/") > 1:
        raise PolicyInvalid(f"{policy}: no such folder", param="policy")
    return None


def positions(folder: Path) -> int | None:
    """Tokens that the policy was made for; None where it does not say. Raises PolicyInvalid when the folder has no
    readable config.json."""
    try:
        config = orjson.loads((folder / "config.json").read_bytes())
        # A model that also sees pictures has its language model's within.
        config = config.get("text_config", config)
        return next((int(config[name]) for name in POSITIONS if config.get(name)), None)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PolicyInvalid(f"{folder}/config.json cannot be read: {error}") from error

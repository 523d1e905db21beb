"""Which folder a policy is in by its name, and what that says of the model in it, read without loading it."""

from pathlib import Path

import orjson

from feedback.errors import PickledWeightsRefused, PolicyInvalid

# Under which names a configuration says how many positions a model has: the usual one, and GPT-2's.
POSITIONS = ("max_position_embeddings", "n_positions")
PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def named_folder(policy: str) -> Path | None:
    """The folder that the setting `policy` names; None for a name on a hub. Raises PolicyInvalid for one not there."""
    folder = Path(policy).expanduser()
    if folder.is_dir():
        return folder
    if policy.startswith((".", "/", "~")) or policy.count("/") > 1:
        raise PolicyInvalid(f"{policy}: no such folder", param="policy")
    return None


def require_one(policy: str) -> None:
    """What can be seen of a starting policy without loading it, or asking a hub. Raises PolicyInvalid."""
    if policy != "builtin" and (folder := named_folder(policy)) is not None:
        require_safetensors(folder)
        positions(folder)


def require_safetensors(folder: Path) -> None:
    """Raises PolicyInvalid for a folder without, PickledWeightsRefused where it has others."""
    if not folder.is_dir():
        raise PolicyInvalid(f"{folder}: no such policy folder")
    if any(folder.glob("*.safetensors")):
        return
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED_SUFFIXES)
    if pickled:
        raise PickledWeightsRefused(
            f"{folder}: only pickled weights ({', '.join(pickled[:3])}); convert them to safetensors first"
        )
    raise PolicyInvalid(f"{folder}: no .safetensors file")


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

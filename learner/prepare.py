"""Makes v0, the starting policy of a home, from the built-in one, a folder or a hub name.

Run as `python -m learner.prepare`; `tandem up` does so at the first start.
"""

import logging
import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel

from feedback import logs, object_storage
from feedback.errors import NotFound, PolicyInvalid, TandemError
from feedback.lifeline import die_with_parent
from feedback.lost_record import require_record
from feedback.policy_config import named_folder
from feedback.schema import version_name
from feedback.settings import Settings, load_settings
from feedback.store import Store, policies
from learner.errors import ModelNotSupported
from learner.pairs import require_pairs
from learner.policy import Policy, load_policy
from learner.publishing import publish_folder

log = logging.getLogger(__name__)

BUILTIN = Path(__file__).parent / "starting_policy" / "weights"
# What a policy is made of. Anything else in a repository, pickled weights first of all, is not fetched.
HUB_FILES = [
    "*.safetensors",
    "*.safetensors.index.json",
    "*.json",
    "*.jinja",
    "*.model",
    "*.txt",
    "merges.*",
]

# Of these vLLM takes the embedding for the output layer, and no layer of its own, with which every version is written.
WITHOUT_OUTPUT_LAYER = {"cohere", "cohere2", "gemma2", "gemma3n", "gemma3n_text"}

# For models without a chat template: the turns of HH-RLHF, with a line break before each text so that a reply is cut
# into tokens in the same way whether it is read or written.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{{ {'user': 'Human:\\n', 'assistant': 'Assistant:\\n'}.get(message['role'], '') }}"
    "{{ message['content'] }}"
    "{{ eos_token if message['role'] == 'assistant' else '' }}"
    "{{ '\\n\\n' }}"
    "{% endfor %}"
    "{{ 'Assistant:\\n' if add_generation_prompt else '' }}"
)


def prepare(store: Store, settings: Settings) -> None:
    """Register v0 if this home has none yet. Raises PolicyInvalid for a policy that cannot be used."""
    try:
        known = store.read(policies.get, 0)
    except NotFound:
        known = None
    if known is not None:
        if known.settings["policy"] != settings.policy and settings.policy != "builtin":
            log.warning(
                "this home started from %s and goes on with it; for %s use another home",
                known.settings["policy"],
                settings.policy,
            )
        return
    policy = load_policy(find(settings.policy), device="cpu")
    _require_trainable(policy.model)
    _give_rows(policy)
    if not policy.tokenizer.chat_template:
        log.warning("%s has no chat template; turns are written as Human: and Assistant:", settings.policy)
        policy.tokenizer.chat_template = PLAIN_TEMPLATE
    folder, digest = publish_folder(policy, settings.policies_dir, 0)
    object_storage.publish(settings, folder, digest)
    path = folder.relative_to(settings.home).as_posix()
    store.write(policies.register_start, path, digest, {"policy": settings.policy})
    log.info("%s is %s, digest %s", version_name(0), settings.policy, digest[:12])


def _require_trainable(model: PreTrainedModel) -> None:
    """Raises ModelNotSupported, rather than that the first iteration fails, or the engine."""
    if model.config.model_type in WITHOUT_OUTPUT_LAYER:
        raise ModelNotSupported(
            f"{model.config.model_type}: vLLM serves it with its embedding as output layer alone", param="policy"
        )
    require_pairs(model)


def _give_rows(policy: Policy) -> None:
    """An embedding for each token that the model has none for, such as one for pictures where it reads none: in a chat
    it would end the training with an index error, and on a GPU the engine. They get the mean of all others.
    """
    model, ids = policy.model, policy.tokenizer.get_vocab()
    rows = model.get_input_embeddings().weight.shape[0]
    beyond = [token for token, id_ in ids.items() if id_ >= rows]
    if beyond:
        model.resize_token_embeddings(max(ids.values()) + 1, mean_resizing=False)
        with torch.no_grad():
            for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
                layer.weight[rows:] = layer.weight[:rows].mean(0, dtype=torch.float32)
        log.warning(
            "its tokenizer has %d tokens more than the model, such as %r: these get rows", len(beyond), beyond[0]
        )


def find(policy: str) -> Path:
    """The folder of a policy by name; one on a hub is fetched. Raises PolicyInvalid."""
    if policy == "builtin":
        return BUILTIN
    return named_folder(policy) or _fetch(policy)


def _fetch(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise PolicyInvalid(
            f"{name}: neither a folder nor a model that the hub gives: {reason}", param="policy"
        ) from error


def main() -> int:
    die_with_parent()
    try:
        settings = load_settings()
        logs.configure(settings)
        require_record(settings)
        store = Store(settings.record_url)
        store.migrate()
        prepare(store, settings)
    except TandemError as error:
        print(f"tandem: {error.message}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())

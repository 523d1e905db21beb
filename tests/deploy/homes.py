"""Homes for tests of what is done to a whole home: policies with weights, iterations with reports, votes."""

import socket
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from feedback import adapters, judges, manifest
from feedback.schema import Base
from feedback.settings import Settings
from feedback.store import Store, iterations, leases, policies, votes
from feedback.store.policies import Provenance
from serve.engine.launcher_protocol import COMMAND_SOCKET
from tests.feedback.record import add_comparison, judgement
from tests.records import empty_record_of


def make_home(settings: Settings, *, versions: int) -> Store:
    """v0 serves; v1 and on are candidates, each of an iteration of its own that has ended; two votes."""
    settings.home.mkdir(parents=True, exist_ok=True)
    store = empty_record_of(settings)
    store.write(
        policies.register_start, "policies/v0", _weights(settings.home / "policies" / "v0", 0), {"policy": "builtin"}
    )
    for version in range(1, versions):
        add_version(store, settings.home, version)
    for _ in range(2):
        put_vote(store)
    return store


def elsewhere(settings: Settings, name: str = "restored") -> Settings:
    return settings.model_copy(update={"home": settings.home.with_name(name)})


def files_of(home: Path, *folders: str) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes()
        for folder in folders
        for path in (home / folder).rglob("*")
        if path.is_file()
    }


def rows_of(store: Store) -> dict[str, list[tuple[object, ...]]]:
    with store.engine.connect() as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(table.select())), key=repr)
            for table in Base.metadata.sorted_tables
        }


def engines_alone(home: Path) -> socket.socket:
    """Engines of a home that no supervisor holds, until it is closed: with compose each process has a container of its
    own, and all of them the home."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(home / "run" / COMMAND_SOCKET))
    listening.listen()
    return listening


def put_vote(store: Store) -> str:
    """The id of a vote on a pair of its own."""
    comparison_id = add_comparison(store)
    return store.write(votes.put, comparison_id, judgement(), key_id="key_a", sees_all=False, rater="ann").id


def add_version(store: Store, home: Path, version: int) -> str:
    """An iteration that publishes `version`. Returns the iteration's id."""
    iteration = store.write(iterations.start, trigger="operator", seed=version, settings={})
    claimed = store.write(iterations.claim, iteration.id, "test", 60.0, 5)
    assert claimed is not None
    epoch = claimed[1]
    dataset, folder = home / "datasets" / f"digest{version}", home / "iterations" / iteration.id
    for made_here in (dataset, folder / "preference"):
        made_here.mkdir(parents=True)
    (dataset / "votes.jsonl").write_text('{"messages": []}\n')
    (folder / "evaluation.json").write_text("{}")
    (folder / "preference" / "preference.safetensors").write_bytes(bytes([version]) * 1000)
    (folder / "ppo.state.safetensors").write_bytes(bytes(5000))
    path = f"datasets/{dataset.name}"
    store.write(iterations.begin_dataset, iteration.id, epoch, digest=dataset.name, path=path, summary={})
    store.write(iterations.freeze, iteration.id, epoch, dataset.name)
    digest = _weights(home / "policies" / f"v{version}", version)
    evidence = {"judges": {"sha256": judges.write_manifest(folder)}}
    made = Provenance(version - 1, iteration.id, dataset.name, {}, version, evidence)
    store.write(policies.publish, version, f"policies/v{version}", digest, made, epoch=epoch)
    store.write(iterations.succeed, iteration.id, epoch, version)
    return iteration.id


def refuse_system_messages(settings: Settings, version: int) -> None:
    """As some published models' templates do. The version is published so: its digest is that of the folder by then."""
    folder = settings.policies_dir / f"v{version}"
    (folder / "chat_template.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0].content }}"
    )
    store = Store(settings.record_url)
    _publish_again(store, version, manifest.write(folder))
    store.close()


def stand_on(store: Store, settings: Settings, version: int, base: int) -> None:
    """The version is published as an adapter on another: its digest is that of the folder by then."""
    folder = settings.policies_dir / f"v{version}"
    (folder / adapters.CONFIG).write_text("{}")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    digest = manifest.write(folder, base=(f"v{base}", store.read(policies.get, base).digest))
    _publish_again(store, version, digest)


def promote(store: Store, version: int, kind: str = "promote") -> None:
    store.write(policies.set_serving, version, kind=kind, reason="", force=False, actor="test")


def lease(store: Store, name: str) -> int | None:
    return store.write(leases.acquire, name, "somebody", 60.0)


def _publish_again(store: Store, version: int, digest: str) -> None:
    store.write(lambda session: setattr(policies.get(session, version), "digest", digest))


def _weights(folder: Path, value: int) -> str:
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer_config.json", "probe.json"):
        (folder / name).write_text("{}")
    save_file({"a": np.full((2, 3), value, np.float32)}, folder / "model.safetensors")
    return manifest.write(folder)

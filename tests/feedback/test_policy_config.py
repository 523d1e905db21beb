"""A policy's positions, under whatever name its configuration says them."""

from pathlib import Path

import orjson
import pytest

from feedback.errors import PolicyInvalid
from feedback.policy_config import positions


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"n_positions": 1024, "n_ctx": 9}, 1024),
        ({"text_config": {"max_position_embeddings": 32}, "max_position_embeddings": 9}, 32),
        ({"model_type": "bloom"}, None),
    ],
)
def test_positions_are_found(tmp_path: Path, config: dict[str, object], found: int | None) -> None:
    (tmp_path / "config.json").write_bytes(orjson.dumps(config))
    assert positions(tmp_path) == found


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyInvalid, match="cannot be read"):
        positions(tmp_path)
    for written in (b"{", b"[]", b'{"text_config": 1}', b'{"n_positions": "many"}', b'{"n_positions": [1]}'):
        (tmp_path / "config.json").write_bytes(written)
        with pytest.raises(PolicyInvalid, match="cannot be read"):
            positions(tmp_path)

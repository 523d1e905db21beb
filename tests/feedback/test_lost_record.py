from pathlib import Path

from feedback.lost_record import left_in


def test_what_somebody_put_beside_the_versions_is_not_left_of_another_home(tmp_path: Path) -> None:
    (tmp_path / "policies" / "my-model").mkdir(parents=True)
    (tmp_path / "policies" / ".keep").touch()
    assert left_in(tmp_path) is None
    (tmp_path / "policies" / "v0").mkdir()
    assert left_in(tmp_path) == "policies"

import pytest

from feedback.errors import InvalidRequest
from feedback.schema import version_name, version_number


def test_versions_are_written_as_they_are_read() -> None:
    assert [version_number(version_name(version)) for version in (0, 7, 10**9 - 1)] == [0, 7, 10**9 - 1]


@pytest.mark.parametrize(
    "name", ["", "3", "v", "v-1", "v1.0", "V1", "v٣", "v1\n", "v2147483648", "v00", "v01", "v" + "9" * 5000]
)
def test_what_is_no_version_or_none_that_a_database_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        version_number(name)

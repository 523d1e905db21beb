import pytest

from feedback.addresses import http_url


@pytest.mark.parametrize(
    ("host", "called"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.0.0.7", "10.0.0.7")]
)
def test_what_listens_on_all_addresses_is_called_at_this_machine(host: str, called: str) -> None:
    assert http_url(host, 8080) == f"http://{called}:8080"

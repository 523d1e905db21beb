"""The one root of every error that Tandem raises on purpose, and the kinds that several rooms share.

An error is raised where it is known and rendered once: as problem+json or OpenAI's error object by the API, as one line
and an exit code by the command line. Its message says what is wrong and, where it can, what to do.
"""

from typing import Any


class TandemError(Exception):
    """Root of all errors raised on purpose. `code` is stable and machine-readable; `status` is the HTTP status."""

    code = "internal_error"
    status = 500
    exit_code = 1

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def details(self) -> dict[str, Any]:
        """What a program may want to read beside the message."""
        return {}


class InvalidRequest(TandemError):
    """The caller asked for something that cannot be: a value out of range, a field of the wrong type."""

    code = "invalid_request"
    status = 400
    exit_code = 2


class NotAuthenticated(TandemError):
    """No key, or one that is unknown or revoked."""

    code = "invalid_api_key"
    status = 401


class NotAllowed(TandemError):
    """The key is good but its role does not reach this route."""

    code = "insufficient_role"
    status = 403


class NotFound(TandemError):
    """No such object, or one that belongs to somebody else: the two are not told apart."""

    code = "not_found"
    status = 404
    exit_code = 3


class Unknown(NotFound):
    """A name that nothing goes by. `shown_by` are the command and the route that show those there are."""

    def __init__(self, what: str, name: str, *shown_by: str, param: str | None = None) -> None:
        show = "shows" if len(shown_by) == 1 else "show"
        super().__init__(f"no {what} {name[:100]!r}; {' and '.join(shown_by)} {show} them", param=param)


class Conflict(TandemError):
    """The object is in a state that does not admit the request."""

    code = "conflict"
    status = 409


class EngineUnavailable(TandemError):
    """No engine can answer now; the request may be sent again."""

    code = "engine_unavailable"
    status = 503


class RecordUnavailable(TandemError):
    """The record's database cannot be reached, or takes nothing: it is down, starting, full or locked for too long."""

    code = "record_unavailable"
    status = 503


class RecordOfNewerRelease(TandemError):
    """The record was brought up to date by a release newer than this one, which cannot read it."""

    code = "record_of_newer_release"


class StorageUnavailable(TandemError):
    """The object storage of `policies_url` cannot be reached, or refuses what was asked."""

    code = "storage_unavailable"
    status = 503


class PolicyInvalid(TandemError):
    """A policy folder that must not be served: a file missing, changed, not finite or of another shape."""

    code = "policy_invalid"
    status = 422


class PickledWeightsRefused(PolicyInvalid):
    """A model folder whose weights are pickled: loading them could run code."""

    code = "pickled_weights_refused"


class LeaseLost(TandemError):
    """Another process holds the lease by now: this one must stop without writing."""

    code = "lease_lost"
    status = 409


class SettingsInvalid(TandemError):
    """`tandem.toml` or a `TANDEM_*` variable holds something that cannot be used."""

    code = "settings_invalid"
    exit_code = 2

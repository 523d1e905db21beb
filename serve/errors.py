"""Errors that only HTTP knows; the ones that several rooms share are in `feedback.errors`."""

from feedback.errors import EngineUnavailable, TandemError


class BodyTooLarge(TandemError):
    """The request body is larger than `serve.max_body_bytes`."""

    code = "body_too_large"
    status = 413


class EncodingUnknown(TandemError):
    """The request body is compressed: it is read as it is only."""

    code = "unsupported_content_encoding"
    status = 415


class MediaTypeUnknown(TandemError):
    """The request says that its body is something other than JSON, as curl does by itself."""

    code = "unsupported_media_type"
    status = 415


class MalformedBody(TandemError):
    """The request body is not JSON, or not a JSON object."""

    code = "malformed_json"
    status = 400


class FieldInvalid(TandemError):
    """A field of a native request is missing, of the wrong type or out of range."""

    code = "invalid_request"
    status = 422


class UnknownRoute(TandemError):
    """There is nothing at this path."""

    code = "unknown_route"
    status = 404


class MethodNotAllowed(TandemError):
    """The path is known, the method is not."""

    code = "method_not_allowed"
    status = 405


class Overloaded(TandemError):
    """The queue for the engines is full; `retry_after_s` says when to come back."""

    code = "rate_limit_exceeded"
    status = 429

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def headers(self) -> dict[str, str]:
        """What stands in the answer's head beside the error."""
        return {"retry-after": str(self.retry_after_s)}


class RateLimited(Overloaded):
    """This key has used up what it may have in a minute; `limits` are the headers that say how much that is."""

    def __init__(self, message: str, *, retry_after_s: int, limits: dict[str, str]) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self.limits = limits

    def headers(self) -> dict[str, str]:
        return super().headers() | self.limits


class EngineRefused(TandemError):
    """vLLM refused the request; its own message says why (too long a prompt, an option it does not know, ...)."""

    code = "invalid_request"

    def __init__(self, message: str, *, status: int, param: str | None = None) -> None:
        super().__init__(message, param=param)
        self.status = status


class ReplyFailed(TandemError):
    """Engines gave up on two attempts at a reply, or on one that was on its way to the client. `form` is the field by
    which it was to have a form, if it was: then that is more than they can follow, else what was asked for may be more
    than they can do.
    """

    code = "reply_failed"

    def __init__(self, form: str | None) -> None:
        if form is None:
            super().__init__("the engines gave up on this reply: they may not be able to do what it asks for")
            return
        super().__init__(
            f"the engines cannot follow what '{form}' asks for: make it smaller or simpler{SIMPLER.get(form, '')}",
            param=form,
        )
        self.status = 400


SIMPLER = {
    "structured_outputs": "; in place of a 'choice' of thousands, a JSON schema with an 'enum' may do",
    "tools": ", or leave out 'strict'",
}


class PromptTooLong(EngineRefused):
    """The messages are more than the policy can read."""

    code = "context_length_exceeded"

    def __init__(self, message: str) -> None:
        super().__init__(message, status=400, param="messages")


class Unexpected(TandemError):
    """Whatever nobody raised on purpose. What it was is in the log only: its words may quote what people wrote."""

    def __init__(self) -> None:
        super().__init__("something broke here; the log has this request's id")


class Stopping(EngineUnavailable):
    """This process ends, and waits no longer for what it had begun."""

    def __init__(self) -> None:
        super().__init__("this server is being stopped; try again shortly")

"""A client's connection: uvicorn's, which would wait for ever for what a client does not send or does not take, keep
all that comes before there is a request, lose the body of one that asks for another protocol, answer HTTP/1.0 in
chunks, and reset a connection while its last request still comes: its client may then never read the answer.
"""

import asyncio
import contextlib
import resource
import socket

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from feedback.ids import new_id
from serve.asgi import Message, Send

LARGEST_HEAD_BYTES = 65_536
# From its first byte, or from the beginning of the connection, until a request is there as a whole.
SLOWEST_REQUEST_S = 60.0
# Who takes nothing for so long is gone: its reply is recorded, and what was kept for it is free again.
TAKES_NOTHING_S = 300.0
# For a client to see the end of a connection and close it.
ENDS_WITHIN_S = 1.0
# Of the files that the process may have open. Engines that it has none left to reach it would take for dead.
SHARE_OF_FILES = 0.75


class Connection(HttpToolsProtocol):
    """Answers 431 to a request line and headers that are too long, 408 to a request that does not end, and 400 to what
    is none; each with an id, as every answer.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # What has come since the last that was whole, or was of a body: of a head, of what may follow a body.
        self._head_bytes = 0
        self._parts = 0
        self._reads_body = False
        # The last answer is sent, and what was asked has not come as a whole.
        self._lingers = False
        self._is_over = False
        # Others may have it open, too.
        self._is_shared = False
        self._slowest: asyncio.TimerHandle | None = None
        self._untaken: asyncio.TimerHandle | None = None
        if len(self.connections) > most_connections():
            self.transport.close()
        else:
            self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_shared:
            self._end_for_all()
        self._expect_nothing()
        self.resume_writing()
        super().connection_lost(exc)

    def to_hand_over(self) -> asyncio.Transport | None:
        """The connection, when what is answered now goes out in chunks, as they are; else None. From then on others may
        have it open, too.
        """
        if self.transport.get_extra_info("sslcontext") is not None or not self.cycle.chunked_encoding:
            return None
        self._is_shared = True
        return self.transport

    def take_no_more(self) -> None:
        """What is answered now is the last: what was asked behind it, or is asked yet, is not begun."""
        self._is_over = True
        self.pipeline.clear()

    def end(self) -> None:
        """Say that nothing more comes, and close."""
        self.take_no_more()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
            self.loop.call_later(ENDS_WITHIN_S, self.transport.close)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        parts = self._parts
        self._read(data)
        if self.transport.is_closing():
            return
        self._head_bytes = self._head_bytes + len(data) if self._parts == parts else 0
        if self._head_bytes > LARGEST_HEAD_BYTES:
            self._refuse(431)
        elif self._slowest is None and (self._reads_body or not self._is_answering):
            self._expect_request()

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade() or self.transport.is_closing():
            # It comes again without that, or too late.
            return
        self._parts += 1
        self._reads_body = True
        super().on_headers_complete()
        self.cycle.scope.setdefault("state", {})["connection"] = self
        if self.parser.get_http_version() == "1.0":
            self.cycle.send = _without_chunks(self.cycle)  # type: ignore[assignment,method-assign]
        if not self.cycle.keep_alive:
            self.cycle.send = self._lingering(self.cycle)  # type: ignore[assignment,method-assign]

    def on_body(self, body: bytes) -> None:
        self._parts += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._parts += 1
        self._reads_body = False
        self._expect_nothing()
        super().on_message_complete()
        if self._lingers:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._reads_body and not self.cycle.response_complete:
            # In the pipeline nothing was read of it.
            self._expect_nothing()
            self._expect_request()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._untaken = self._untaken or self.loop.call_later(TAKES_NOTHING_S, self.transport.abort)

    def resume_writing(self) -> None:
        if self._untaken is not None:
            self._untaken.cancel()
            self._untaken = None
        super().resume_writing()

    def _end_for_all(self) -> None:
        """Closed here alone, the client would wait for as long as an engine that hangs has it open."""
        ours = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError), socket.fromfd(ours.fileno(), ours.family, ours.type) as shared:
            shared.shutdown(socket.SHUT_RDWR)

    def _lingering(self, cycle: RequestResponseCycle) -> Send:
        """`cycle.send` for the last answer of a connection, which goes on until the request has come as a whole."""
        send_and_close = cycle.send

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # From here on nothing more comes until it is sent.
                await cycle.flow.drain()
                self._lingers = cycle.keep_alive = cycle.more_body
            await send_and_close(message)  # type: ignore[arg-type]
            if self._lingers and self.transport.can_write_eof() and not self.transport.is_closing():
                self.transport.write_eof()

        return send

    def _read(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._read_until_upgrade(data)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(400)

    def _read_until_upgrade(self, data: bytes) -> bytes:
        """Read up to a request that would like another protocol. That, without its wish, is returned to be read, with
        what follows: it is answered in the protocol that it came by (RFC 9110, 7.8). Some clients ask for HTTP/2 with
        each, and the parser takes what follows such a head for that. Raises httptools.HttpParserError.
        """
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as asked:
            method = self.parser.get_method()
            if method == b"CONNECT":
                raise httptools.HttpParserInvalidMethodError from None
            head = b"%s %s HTTP/%s\r\n" % (method, self.url, self.parser.get_http_version().encode())
            for name, value in self.headers:
                if name != b"upgrade":
                    head += b"%s: %s\r\n" % (name, value)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return head + b"\r\n" + data[asked.args[0] :]
        return b""

    def _expect_request(self) -> None:
        self._slowest = self.loop.call_later(SLOWEST_REQUEST_S, self._is_too_slow)

    def _expect_nothing(self) -> None:
        if self._slowest is not None:
            self._slowest.cancel()
            self._slowest = None

    def _is_too_slow(self) -> None:
        if self._is_answering:
            # What comes after a request, an empty line say, does not end its answer.
            self._expect_request()
        elif self._head_bytes or self._reads_body:
            self._refuse(408)
        else:
            self.transport.close()

    @property
    def _is_answering(self) -> bool:
        # `cycle` is the request that came last; what is in the pipeline waits for the answer to an earlier one.
        cycle = self.cycle
        begun = cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body)
        return begun or bool(self.pipeline)

    def _refuse(self, status: int) -> None:
        # A request may have its answer before its body is whole.
        is_answered = self._reads_body and self.cycle is not None and self.cycle.response_complete
        if not self._is_answering and not is_answered:
            request_id = b"x-request-id: %s\r\n" % new_id("req").encode()
            self.transport.write(STATUS_LINE[status] + request_id + b"content-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


def most_connections() -> int:
    """So many clients may be connected at a time."""
    return int(SHARE_OF_FILES * resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _without_chunks(cycle: RequestResponseCycle) -> Send:
    """`cycle.send` for HTTP/1.0, which knows no chunks: an answer whose length is not said ends with the connection."""
    send_chunked, has_length = cycle.send, True

    async def send(message: Message) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name == b"content-length" for name, _ in message["headers"])
            cycle.chunked_encoding = None if has_length else False
        elif not has_length:
            cycle.expected_content_length = len(message.get("body", b""))
        await send_chunked(message)  # type: ignore[arg-type]

    return send

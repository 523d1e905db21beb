"""A TCP port before a unix socket, for peers that cannot speak to one: `python -m benchmarks.relay SOCKET PORT`."""

import asyncio
import contextlib
import sys


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while content := await reader.read(1 << 16):
            writer.write(content)
            await writer.drain()
    writer.close()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        engine_reader, engine_writer = await asyncio.open_unix_connection(sys.argv[1])
    except OSError:
        writer.close()
        return
    await asyncio.gather(_pass_on(reader, engine_writer), _pass_on(engine_reader, writer))


async def main() -> None:
    server = await asyncio.start_server(_relay, "127.0.0.1", int(sys.argv[2]))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(main())

"""A scripted chat endpoint, for faults and for timing: each call gets what a script says for its index.

    with FaultServer([status(429, retry_after="2"), text("4")]) as server:
        model = EndpointChat("any", server.url)

Lean on purpose (asyncio streams, HTTP/1.1 with keep-alive, bodies made once), so that benchmarks measure the caller.
It serves from a thread of its own; `python tests/fault_server.py --latency 0.05` serves from a process of its own.
Texts are scripted: what a model would say is not imitated here, and no test of quality may use it.
"""

import argparse
import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

KIND = "application/json"


@dataclass(frozen=True)
class Step:
    """What one call gets.

    Attributes:
        body: Bytes of the answer's body.
        status: HTTP status.
        headers: Beside length and type.
        latency: Seconds before the first byte.
        cut: Bytes of the body after which the connection breaks; None sends it whole.
        drip: Seconds between single bytes of the body; 0 sends it at once.
        hang: Whether nothing ever comes.
        together: Calls that must be open at once before this one is answered.
    """

    body: bytes = b""
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    latency: float = 0.0
    cut: int | None = None
    drip: float = 0.0
    hang: bool = False
    together: int = 0

    def head(self) -> bytes:
        """Return status line and headers."""
        lines = [f"HTTP/1.1 {self.status} Scripted", f"content-type: {KIND}", f"content-length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, "", ""]).encode()


Script = Sequence[Step] | Callable[[int, dict[str, Any]], Step]
"""Steps by call index, the last one again for every later call; or a function of (index, request body)."""


def completion(content: str | None, finish: str | None = "stop", **message: Any) -> dict[str, Any]:
    """Return the JSON of a chat completion."""
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted-1",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9},
    }


def answer(body: Any, **options: Any) -> Step:
    """Any JSON, or raw bytes, as a body."""
    return Step(body if isinstance(body, bytes) else json.dumps(body).encode(), **options)


def text(content: str, **options: Any) -> Step:
    """Return a whole answer."""
    return answer(completion(content), **options)


def status(code: int, message: str = "scripted", *, error: str | None = None, retry_after: str | None = None) -> Step:
    """Return an error as OpenAI words it."""
    headers = () if retry_after is None else (("retry-after", retry_after),)
    return answer({"error": {"message": message, "type": "scripted", "code": error}}, status=code, headers=headers)


def hang() -> Step:
    """Accept the call and never answer."""
    return Step(hang=True)


def truncated() -> Step:
    """Break the connection in the middle of a body."""
    return replace(text("never whole"), cut=20)


def wrong_json() -> Step:
    """Return 200 and a body that is no JSON."""
    return answer(b"<html>Bad gateway</html>")


def empty_choices() -> Step:
    """Return a completion without choices."""
    return answer({**completion(""), "choices": []})


def missing_usage(content: str = "4") -> Step:
    """Return an answer whose tokens nobody counted."""
    return answer({name: value for name, value in completion(content).items() if name != "usage"})


def slow_drip(seconds: float = 0.02) -> Step:
    """Send the body byte by byte: each read is quick, the whole is not."""
    return text("slow", drip=seconds)


def refusal(words: str = "I can't help with that.") -> Step:
    """Return a refusal in the field that OpenAI has for it."""
    return answer(completion(None, refusal=words))


def filtered() -> Step:
    """Return an answer that a content filter ended."""
    return answer(completion("", "content_filter"))


@dataclass
class FaultServer:
    """Serves a script on 127.0.0.1; counts calls and how many were open at once."""

    script: Script = (text("4"),)
    calls: int = 0
    open: int = 0
    most_open: int = 0
    requests: list[dict[str, Any]] = field(default_factory=list)
    """Bodies as they came, one a call, with the headers under "headers"; kept only while `keep`."""
    keep: bool = True
    port: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _gates: dict[int, asyncio.Event] = field(default_factory=dict)
    _heads: dict[int, tuple[Step, bytes]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The base_url of the endpoint."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> asyncio.Server:
        """Listen within the running loop."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def __enter__(self) -> Self:
        ready = threading.Event()

        async def run() -> None:
            self._loop, server = asyncio.get_running_loop(), await self.start()
            self._stop = asyncio.Event()
            ready.set()
            await self._stop.wait()
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._thread = threading.Thread(target=asyncio.run, args=(run(),), name="fault-server", daemon=True)
        self._thread.start()
        assert ready.wait(10), "the fault server did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection in turn."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while request := await self._read(reader):
                if not await self._reply(request, writer):
                    break
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the caller went away, or the test is over: nothing to tell anybody
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> dict[str, Any] | None:
        """Return the next request's body with its headers, None at the connection's end."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, path, _ = first.split(" ")
        if not self.keep and not callable(self.script):
            return {"path": path}
        return {**(json.loads(body) if body else {}), "headers": headers, "method": method, "path": path}

    async def _reply(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Send what the script says; return whether the connection goes on."""
        index, self.calls = self.calls, self.calls + 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.keep:
            self.requests.append(request)
        try:
            step = self._step(index, request)
            if step.hang:
                await asyncio.Event().wait()
            if step.together:
                await self._wait_for(step.together)
            if step.latency:
                await asyncio.sleep(step.latency)
            return await self._send(step, writer)
        finally:
            self.open -= 1

    async def _wait_for(self, calls: int) -> None:
        gate = self._gates.setdefault(calls, asyncio.Event())
        if self.open >= calls:
            gate.set()
        await gate.wait()

    def _step(self, index: int, request: dict[str, Any]) -> Step:
        if callable(self.script):
            return self.script(index, request)
        return self.script[min(index, len(self.script) - 1)]

    async def _send(self, step: Step, writer: asyncio.StreamWriter) -> bool:
        if step.drip:
            writer.write(step.head())
            for byte in step.body:
                writer.write(bytes([byte]))
                await asyncio.sleep(step.drip)
            return True
        known = self._heads.get(id(step))
        if known is None:  # the step is kept with it, so that its id stays its own
            known = self._heads[id(step)] = (step, step.head() + step.body[: step.cut])
        writer.write(known[1])
        await writer.drain()
        return step.cut is None


def main() -> None:
    """Serve one text for ever; the port is the first line printed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--text", default="4")
    options = parser.parse_args()
    server = FaultServer([text(options.text, latency=options.latency)], keep=False, port=options.port)

    async def run() -> None:
        async with await server.start() as listening:
            print(server.port, flush=True)
            await listening.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()

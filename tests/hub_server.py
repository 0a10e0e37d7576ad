"""A hub small enough to read: the endpoints that huggingface_hub calls for one repository of one commit."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

REPOSITORY = "someone/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = ("main", "v1", COMMIT)


@dataclass
class Hub:
    """What the hub serves, and what it was asked.

    Attributes:
        files: Contents by name; safetensors are served as LFS files are.
        instead: Contents that are served in place of what the hub says of a file.
        url: Where it listens.
        asked: Method and path of every request.
    """

    files: dict[str, bytes]
    instead: dict[str, bytes] = field(default_factory=dict)
    url: str = ""
    asked: list[str] = field(default_factory=list)

    def about(self, name: str) -> dict[str, object]:
        """Return what the hub says of a file."""
        content = self.files[name]
        oid = sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        said: dict[str, object] = {"oid": oid, "size": len(content)}
        if name.endswith(".safetensors"):
            said["lfs"] = {"oid": sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        return said


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve `hub` on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            hub.asked.append(f"{self.command} /{'/'.join(parts)}")
            status, headers, content = answer(hub, parts)
            start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0]
            if status == 200 and start.isdigit() and int(start):  # a client that goes on where it was cut off
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                status, content = 206, content[int(start) :]
            self.send_response(status)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def answer(hub: Hub, parts: list[str]) -> tuple[int, dict[str, object], bytes]:
    """Return status, headers and content for a path."""
    api = parts[:2] == ["api", "models"]
    owner, name, *rest = parts[2:] if api else parts
    if f"{owner}/{name}" != REPOSITORY:
        return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b""
    verb, revision, *file = rest or ["revision", "main"]
    if revision not in REVISIONS:
        return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}, b""
    if api and verb == "revision":
        siblings = []
        for path in hub.files:
            said = hub.about(path)
            lfs = {"lfs": {**said["lfs"], "sha256": said["lfs"]["oid"]}} if "lfs" in said else {}  # type: ignore[dict-item,index]
            siblings.append({"rfilename": path, "size": said["size"], "blobId": said["oid"], **lfs})
        return as_json({"id": REPOSITORY, "modelId": REPOSITORY, "sha": COMMIT, "tags": [], "siblings": siblings})
    if api and verb == "tree":
        return as_json([{"type": "file", "path": path, **hub.about(path)} for path in hub.files])
    path = "/".join(file)
    if verb != "resolve" or path not in hub.files:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
    said = hub.about(path)
    headers: dict[str, object] = {"X-Repo-Commit": COMMIT, "ETag": f'"{said["oid"]}"'}
    if "lfs" in said:
        headers |= {"X-Linked-Etag": f'"{said["lfs"]["oid"]}"', "X-Linked-Size": said["size"]}  # type: ignore[index]
    return 200, headers, hub.instead.get(path, hub.files[path])


def as_json(value: object) -> tuple[int, dict[str, object], bytes]:
    """Return a JSON answer."""
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()

"""A hub of models on this machine: the few requests of huggingface_hub that publishing and fetching make, answered from memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlparse

import pytest


class Hub:
    """Repositories as commits of files.

    Attributes:
        files: of every repository, its files by name, for each revision.
        requests: what was asked, in order.
        refuse: status that every commit is answered with, if any.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []
        self.refuse = 0
        self.endpoint = ""

    def commit(self, repo: str, revision: str, lines: list[dict[str, Any]]) -> str:
        """Apply a commit to a branch, and keep what it made under its own name."""
        files = dict(self.files[repo].get(revision, {}))
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            if line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        self.files[repo][revision] = files
        name = self.name(files)
        self.files[repo][name] = files
        return name

    @staticmethod
    def name(files: dict[str, bytes]) -> str:
        return hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args: Any) -> None:
        """Quiet."""

    def _answer(self, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status: int, code: str) -> None:
        self._answer({"error": code}, status, {"X-Error-Code": code, "X-Error-Message": code})

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        if "/resolve/" in path:
            repo, _, rest = path.strip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            self._file(repo, revision, name)
        elif path.startswith("/api/models/") and "/tree/" in path:
            repo, _, revision = path.removeprefix("/api/models/").partition("/tree/")
            files = self.hub.files.get(repo, {}).get(revision, {})
            self._answer([{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in files.items()])
        else:
            repo = path.removeprefix("/api/models/").partition("/revision/")[0]
            if repo not in self.hub.files:
                self._error(401, "RepoNotFound")
            else:
                self._answer({"id": repo, "modelId": repo, "sha": self.hub.name(self.hub.files[repo]["main"]), "siblings": []})

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def _file(self, repo: str, revision: str, name: str) -> None:
        if repo not in self.hub.files:
            return self._error(404, "RepoNotFound")
        if revision not in self.hub.files[repo]:
            return self._error(404, "RevisionNotFound")
        files = self.hub.files[repo][revision]
        commit = {"X-Repo-Commit": self.hub.name(files)}
        if name not in files:
            return self._answer({"error": "no entry"}, 404, commit | {"X-Error-Code": "EntryNotFound"})
        return self._answer(files[name], headers=commit | {"ETag": f'"{hashlib.sha256(files[name]).hexdigest()}"'})

    def do_POST(self) -> None:
        path = unquote(urlparse(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            self.hub.files.setdefault(repo, {"main": {}})
            self._answer({"url": f"{self.hub.endpoint}/{repo}"})
        elif path == "/api/validate-yaml":
            self._answer({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self._answer({"files": files})
        elif "/commit/" in path and self.hub.refuse:
            self._error(self.hub.refuse, "Forbidden")
        elif "/branch/" in path:
            repo, _, branch = path.removeprefix("/api/models/").partition("/branch/")
            self.hub.files[repo].setdefault(branch, dict(self.hub.files[repo]["main"]))
            self._answer({})
        elif "/commit/" in path:
            repo, _, revision = path.removeprefix("/api/models/").partition("/commit/")
            made = self.hub.commit(repo, revision, [json.loads(line) for line in body.splitlines()])
            self._answer({"commitUrl": f"{self.hub.endpoint}/{repo}/commit/{made}", "commitOid": made})
        else:
            self._error(404, "NotFound")


def ask(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let huggingface_hub ask another hub: what HF_ENDPOINT does in a new process."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


@contextlib.contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

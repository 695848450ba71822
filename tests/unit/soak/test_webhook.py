"""A webhook is told once and in time, or it is said why not; its URL shows up nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from harness.errors import ConfigError
from harness.soak import webhook


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, self.headers["Content-Type"], json.loads(body)))  # type: ignore[attr-defined]
        if self.path == "/silent":
            self.server.release.wait(10)  # type: ignore[attr-defined]
            return
        self.send_response({"/ok": 204, "/gone": 410, "/moved": 302}[self.path])
        self.send_header("Location", "/ok")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Receiver)
    made.got = []  # type: ignore[attr-defined]
    made.release = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.release.set()  # type: ignore[attr-defined]
    made.shutdown()
    thread.join()
    made.server_close()


def url(server: HTTPServer, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_an_alert_arrives_as_json(server):
    message = webhook.alert_message(
        "s1", "rpi4", "rss_ratio > 0.85", "at 1 min: rss_ratio > 0.85 (worst 90%)", aborted=True, t_s=60
    )
    assert webhook.post(url(server, "/ok"), message) == ""
    ((path, kind, body),) = server.got
    assert (path, kind) == ("/ok", "application/json; charset=utf-8")
    assert body == message
    assert body["text"] == ("Soak s1 on rpi4, at 1 min: rss_ratio > 0.85 (worst 90%). The soak was stopped.")


@pytest.mark.parametrize(("path", "why"), [("/gone", "answered 410"), ("/moved", "answered 302")])
def test_a_refusal_is_told_and_a_redirect_isnt_followed(server, path, why):
    assert webhook.post(url(server, path), {"a": 1}) == why
    assert len(server.got) == 1


def test_one_that_is_silent_or_away_costs_no_more_than_its_deadline(server):
    assert webhook.post(url(server, "/silent"), {}, timeout_s=0.05).startswith("can't be reached")
    closed = "http://127.0.0.1:1/secret-token"
    said = webhook.post(closed, {}, timeout_s=1)
    assert said == "can't be reached: ConnectionRefusedError"


def test_the_url_comes_from_the_environment_and_is_never_shown():
    assert webhook.webhook_url("HOOK", {"HOOK": " https://chat.example/x "}) == "https://chat.example/x"
    with pytest.raises(ConfigError, match=r"names \$HOOK, which isn't set"):
        webhook.webhook_url("HOOK", {})
    for wrong in ("ftp://secret/x", "chat.example/secret", "http://", "http://secret:port/"):
        with pytest.raises(ConfigError) as caught:
            webhook.webhook_url("HOOK", {"HOOK": wrong})
        assert "secret" not in str(caught.value)

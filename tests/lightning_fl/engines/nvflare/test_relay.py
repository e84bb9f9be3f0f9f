"""The line between the coordinator and an engine's server: every call ends, whatever breaks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client
from threading import Event, Thread
from typing import Any

import pytest

from lightning_fl.engines.nvflare import line, relay
from lightning_fl.engines.nvflare.line import Call, Post, call_in, serve
from lightning_fl.engines.nvflare.relay import RelayTransport, _Pulse
from lightning_fl.errors import ConfigError, SiteError
from lightning_fl.wire.transport import Reply
from tests.waiting import PATIENCE, Clock

SITES = ("A", "B")
FarEnd = Callable[[Call], RelayTransport]


def echo(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
    return Reply(f"{site} {op} ".encode() + payload, 0.5)


def nothing() -> None:
    """What checks nothing."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The line's clock, which stands still unless a test moves it."""
    clock = Clock()
    monkeypatch.setattr(relay, "time", clock)
    return clock


@pytest.fixture
def far_end() -> Iterator[FarEnd]:
    """Starts a far end in a thread and gives the transport that reaches it."""
    posts: list[Post] = []
    transports: list[RelayTransport] = []

    def start(call: Call) -> RelayTransport:
        post = Post()
        posts.append(post)
        folder = str(post.folder)
        Thread(target=lambda: serve(call_in(folder, SITES), call, 4), daemon=True).start()
        transport = RelayTransport()
        assert transport.connect(post.answer(PATIENCE, nothing)) == SITES
        transports.append(transport)
        return transport

    yield start
    for transport in transports:
        transport.hang_up(SITES)
    for post in posts:
        post.close()


def kinds(replies: dict[str, Reply | SiteError]) -> dict[str, str]:
    return {s: r.kind if isinstance(r, SiteError) else "reply" for s, r in replies.items()}


def test_each_site_gets_its_payload_and_its_answer_comes_back(far_end: FarEnd) -> None:
    heard: list[str] = []
    replies = far_end(echo).map(
        "train",
        {"B": b"1", "A": bytes(3 * 2**20)},
        timeout=PATIENCE,
        on_reply=lambda site, reply: heard.append(site),
    )
    assert list(replies) == ["B", "A"]
    assert replies["B"] == Reply(b"B train 1", 0.5)
    answer = replies["A"]
    assert isinstance(answer, Reply)
    assert answer.payload == b"A train " + bytes(3 * 2**20)
    assert sorted(heard) == ["A", "B"]


def test_a_failure_comes_back_with_its_kind_and_the_other_site_is_heard(far_end: FarEnd) -> None:
    def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
        if site == "A":
            return SiteError(site, op, "non_finite", "NaN")
        return echo(site, op, payload, timeout)

    replies = far_end(call).map("train", dict.fromkeys(SITES, b""), timeout=PATIENCE)
    assert kinds(replies) == {"A": "non_finite", "B": "reply"}
    failure = replies["A"]
    assert isinstance(failure, SiteError)
    assert failure.detail == "NaN"


def test_a_far_end_that_never_answers_is_late_and_its_late_answer_is_not_the_next_one(
    far_end: FarEnd, clock: Clock
) -> None:
    go_on = Event()

    def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
        if site == "A" and op == "train":
            go_on.wait(PATIENCE)
        return echo(site, op, payload, timeout)

    def wait_in_vain(site: str, reply: Reply | SiteError) -> None:
        if site == "B":
            clock.now += line.GRACE + 2

    transport = far_end(call)
    replies = transport.map("train", dict.fromkeys(SITES, b""), timeout=1, on_reply=wait_in_vain)
    assert kinds(replies) == {"A": "timeout", "B": "reply"}
    go_on.set()
    assert transport._lines["A"].connection.poll(PATIENCE)  # the answer to train
    assert transport.map("load", {"A": b"2"}, timeout=1) == {"A": Reply(b"A load 2", 0.5)}


def gone(reply: Reply | SiteError) -> bool:
    """Whether a site is lost for what was seen of its process, not for its silence."""
    return isinstance(reply, SiteError) and reply.detail == "its process is gone"


def test_sites_behind_a_line_that_breaks_are_lost_at_once_and_stay_lost() -> None:
    post = Post()
    with closing(post):
        folder = str(post.folder)
        transport = RelayTransport()
        lines = []
        for site in SITES:
            caller = Thread(target=lambda s=site: lines.append(call_in(folder, (s,))))
            caller.start()
            transport.connect(post.answer(PATIENCE, nothing))
            caller.join()
        Thread(target=lambda: serve(lines[1], echo, 2), daemon=True).start()
        lines[0].connection.close()
        replies = transport.map("train", dict.fromkeys(SITES, b""), timeout=PATIENCE)
        assert kinds(replies) == {"A": "lost", "B": "reply"}
        assert gone(replies["A"])
        assert gone(transport.map("train", {"A": b""}, timeout=PATIENCE)["A"])
        transport.hang_up(SITES)


def test_a_site_whose_process_is_seen_to_be_gone_is_lost_without_waiting(far_end: FarEnd) -> None:
    end = Event()

    def busy(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
        end.wait(PATIENCE)
        return echo(site, op, payload, timeout)

    transport = far_end(busy)
    transport._alive = lambda site: site != "A"
    assert gone(transport.map("train", {"A": b""}, timeout=PATIENCE)["A"])
    end.set()


def test_a_busy_site_that_answers_pings_is_waited_for_and_a_silent_one_is_lost(
    far_end: FarEnd, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear = _Pulse.hear
    end = Event()

    def hear_and_go_on(pulse: _Pulse, header: Mapping[str, Any]) -> None:
        hear(pulse, header)
        if "kind" not in header:  # B has answered a ping
            clock.now += relay.SILENCE / 4

    def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
        if op == "ping" and site == "A":
            return SiteError(site, op, "lost", "not reached")
        if op == "train":
            end.wait(PATIENCE)
        return echo(site, op, payload, timeout)

    monkeypatch.setattr(_Pulse, "hear", hear_and_go_on)
    monkeypatch.setattr(relay, "EVERY", 0.0)
    replies = far_end(call).map(
        "train",
        dict.fromkeys(SITES, b""),
        timeout=1e9,
        on_reply=lambda site, reply: end.set() if site == "A" else None,
    )
    assert kinds(replies) == {"A": "lost", "B": "reply"}
    failure = replies["A"]
    assert isinstance(failure, SiteError)
    assert "nothing has been heard" in failure.detail


def test_what_an_engine_raises_is_told_as_a_lost_site(far_end: FarEnd) -> None:
    def call(site: str, op: str, payload: bytes, timeout: float) -> Reply | SiteError:
        raise RuntimeError("the engine is shutting down")

    replies = far_end(call).map("train", {"A": b""}, timeout=PATIENCE)
    assert kinds(replies) == {"A": "lost"}


def test_an_end_that_does_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "GRACE", 1)
    post = Post()
    with closing(post):
        folder = str(post.folder)
        lines = []
        caller = Thread(target=lambda: lines.append(call_in(folder, ("A",))))
        caller.start()
        transport = RelayTransport()
        transport.connect(post.answer(PATIENCE, nothing))
        caller.join()
        assert gone(transport.map("load", {"A": bytes(8 * 2**20)}, timeout=PATIENCE)["A"])


def test_who_does_not_know_the_key_is_not_heard() -> None:
    post = Post()
    with closing(post):
        assert post.folder.stat().st_mode & 0o077 == 0  # for this user alone

        def intrude() -> None:
            with pytest.raises((AuthenticationError, OSError, EOFError)):
                Client(str(post.folder / "line"), "AF_UNIX", authkey=b"guess")

        def until_it_is_refused() -> None:
            if not stranger.is_alive():
                raise TimeoutError

        stranger = Thread(target=intrude)
        stranger.start()
        with pytest.raises(TimeoutError):
            post.answer(PATIENCE, until_it_is_refused)
        stranger.join()


def test_waiting_for_a_call_ends_when_there_is_nothing_to_wait_for() -> None:
    def check() -> None:
        raise ConfigError("it has ended")

    post = Post()
    with closing(post), pytest.raises(ConfigError, match="it has ended"):
        post.answer(30.0, check)
    assert not post.folder.exists()

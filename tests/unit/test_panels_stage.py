"""The parts of a stage without a broker: what it reads in a journal, what it makes of the
broker's answers, its buttons, and what its strip shows. Journals are written by hand."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from plots_script import Script, bob_is_away

from chatlab import lecture
from chatlab.errors import InvalidInput, ServiceUnavailable
from chatlab.journal import Journal
from chatlab.panels import stores
from chatlab.panels.lookout import Lookout, Seen
from chatlab.panels.recent import Recent
from chatlab.panels.situation import Situation
from chatlab.panels.stores import Store, Stores, Topology, keeper_of
from chatlab.panels.toolbar import Toolbar
from chatlab.panels.topology import MOST_LINES, MOST_SQUARES, TopologyPanel
from chatlab.plots import recent as strips
from chatlab.plots.recent import COLUMNS, KEPT_SENDS, Tail, draw, newest, recent
from chatlab.plots.story import Send
from chatlab.services.addresses import RabbitAddress, RedisAddress


class Service:
    """Keeps the verbs that it was asked for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: list[str] = []

    def __getattr__(self, verb: str) -> Any:
        return lambda: self.done.append(verb)


class Lease:
    lab = "groups-123456"
    rabbitmq = RabbitAddress(
        host="127.0.0.1", port=1, user="u", password="hush", vhost="v", version="3.10.8"
    )
    redis = RedisAddress(host="127.0.0.1", port=2, version="9.1.2", product="Valkey")


class Lab:
    """What a panel needs of a lab, with a journal written by hand."""

    name, lease, closed, links = "groups", Lease(), False, True

    def __init__(self, journal: Journal, breakable: bool = True) -> None:
        self.begin(journal)
        self.breakable = breakable
        self.rabbitmq, self.redis = Service("rabbitmq"), Service("redis")
        self.cuts: list[tuple[str, ...]] = []

    def begin(self, journal: Journal) -> None:
        self.journal = journal
        self.current = type("Scene", (), {"journal": journal})()

    def cut(self, user: User, service: str) -> None:
        self.cuts.append(("cut", user.name, service))

    def heal(self, user: User) -> None:
        self.cuts.append(("heal", user.name))


class User:
    def __init__(self, name: str) -> None:
        self.name = name
        self.joined: list[Any] = []

    def join(self, *args: Any) -> None:
        self.joined.append(args)


USERS = [User(name) for name in ("ana", "bob", "eva")]


def script(backend: str = "rabbitmq-durable") -> Script:
    return Script("ana", "bob", "eva", backend=backend, users=["ana", "bob", "eva"])


def lookout(lab: Lab) -> Lookout:
    found = Lookout(lab, Situation("sd"))  # type: ignore[arg-type]
    for name in found.services:
        found.saw(name, "up", 9.0 if name == "rabbitmq" else None)
    return found


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fed by itself: tests call refresh. The kernel's own pump is left alone."""
    pump = type("Pump", (), {"add": lambda *_: None, "remove": lambda *_: None})()
    monkeypatch.setattr("chatlab.panels.panel.PUMP", pump)


@pytest.fixture
def open_panels() -> Iterator[list[Any]]:
    panels: list[Any] = []
    yield panels
    for panel in panels:
        panel.close()


def toolbar(lab: Lab, open_panels: list[Any]) -> Toolbar:
    made = Toolbar(lookout(lab), USERS[1])  # type: ignore[arg-type]
    open_panels.append(made)
    return made


def buttons(panel: Any) -> dict[str, bool]:
    panel.refresh()
    return {button["label"]: button["on"] for button in panel.view["buttons"]}


def titles(panel: Any) -> dict[str, str]:
    panel.refresh()
    return {button["label"]: button["title"] for button in panel.view["buttons"]}


# -- what goes on, from the journal


def test_the_situation_knows_the_backend_of_the_group_its_members_and_whose_link_is_cut() -> (
    None
):
    s = script().join()
    situation = Situation("sd").follow(s.journal)
    assert (situation.backend, situation.members) == ("rabbitmq-durable", {"ana", "bob", "eva"})
    s.fact("FaultBegan", "", "", "cut", "bob-rabbitmq").fact("Left", "eva", "group:sd")
    assert situation.follow(s.journal).cut("bob") == ["rabbitmq"]
    assert situation.cut("ana") == [] and situation.members == {"ana", "bob"}
    s.fact("FaultEnded", "", "", "cut", "bob-rabbitmq")
    assert situation.follow(s.journal).cut("bob") == []


def test_a_crash_ends_the_cut_of_a_link_and_a_new_scene_everything() -> None:
    s = script().join().fact("FaultBegan", "", "", "cut", "bob-rabbitmq")
    situation = Situation("sd").follow(s.journal)
    s.fact("Crashed", "bob", "")
    assert situation.follow(s.journal).cut("bob") == []
    s.fact("FaultBegan", "", "", "cut", "bob-rabbitmq")
    assert situation.follow(s.journal).cut("bob")
    assert situation.follow(Script("ana").journal).cut("bob") == []
    assert (situation.backend, situation.members) == ("", set())


def test_another_group_of_the_scene_is_not_taken_for_this_one() -> None:
    s = script().join().join("ana", to="news", backend="redis-stream")
    assert Situation("sd").follow(s.journal).backend == "rabbitmq-durable"


# -- the toolbar


def test_kill_is_followed_by_a_start_and_the_buttons_are_about_the_groups_own_service(
    open_panels: list[Any],
) -> None:
    lab = Lab(script().join().journal)
    bar = toolbar(lab, open_panels)
    assert buttons(bar) == {
        "kill RabbitMQ": True, "restart": True, "pause": True, "cut bob's link": True
    }  # fmt: skip
    bar.click("kill RabbitMQ")
    assert lab.rabbitmq.done == ["kill", "start"]
    lab.begin(script("redis-stream").join().journal)
    assert "kill Valkey" in buttons(bar)
    bar.click("kill Valkey")
    assert lab.redis.done == ["kill", "start"]


def test_after_a_kill_the_time_until_it_is_back_is_counted_down(open_panels: list[Any]) -> None:
    bar = toolbar(Lab(script().join().journal), open_panels)
    bar._lookout.services["rabbitmq"] = Seen("starting", time.monotonic() - 3.5, 9.0)
    bar.refresh()
    rabbitmq = bar.view["services"][0]
    assert (rabbitmq["state"], rabbitmq["word"]) == ("starting", "back in about 6 s")
    assert not any(buttons(bar)[label] for label in ("kill RabbitMQ", "restart", "pause"))
    assert titles(bar)["kill RabbitMQ"] == "It is just starting"
    bar._lookout.services["rabbitmq"] = Seen("starting", time.monotonic() - 12, 9.0)
    bar.refresh()
    assert bar.view["services"][0]["word"] == "back at any moment"


def test_a_service_that_is_down_or_paused_says_so_and_gets_the_button_that_mends_it(
    open_panels: list[Any],
) -> None:
    bar = toolbar(Lab(script().join().journal), open_panels)
    bar._lookout.saw("rabbitmq", "down")
    on = buttons(bar)
    assert on["start RabbitMQ"] and not on["restart"] and not on["pause"]
    assert bar.view["services"][0]["word"] == "down"
    bar._lookout.saw("rabbitmq", "paused")
    on = buttons(bar)
    assert on["resume"] and not on["kill RabbitMQ"] and not on["restart"]
    bar.click("resume")
    assert buttons(bar)["pause"]
    assert bar.table()[0] == {
        "service": "RabbitMQ", "version": "3.10.8", "state": "up", "last start": 9.0
    }  # fmt: skip


def test_what_cannot_be_broken_is_off_and_its_title_says_why(open_panels: list[Any]) -> None:
    lab = Lab(script().join().journal, breakable=False)
    bar = toolbar(lab, open_panels)
    assert buttons(bar) == {
        "kill RabbitMQ": False, "restart": False, "pause": False, "cut bob's link": True
    }  # fmt: skip
    assert "breakable=True" in titles(bar)["kill RabbitMQ"]
    with pytest.raises(InvalidInput, match="cannot be pressed"):
        bar.click("kill RabbitMQ")
    assert lab.rabbitmq.done == []
    lab.begin(script("memory").join().journal)
    assert not any(buttons(bar).values())
    assert "memory of this process" in titles(bar)["cut bob's link"]


def test_a_link_is_cut_to_the_service_of_the_group_and_healed_by_the_same_button(
    open_panels: list[Any],
) -> None:
    s = script().join()
    lab = Lab(s.journal)
    bar = toolbar(lab, open_panels)
    bar._asked(bar, {"do": "cut"}, [])  # as the browser sends it
    bar.wait()
    s.fact("FaultBegan", "", "", "cut", "bob-rabbitmq")
    bar.click("heal bob's link")
    assert lab.cuts == [("cut", "bob", "rabbitmq"), ("heal", "bob")]


# -- the topology


def topology(lab: Lab, open_panels: list[Any], found: Topology | None) -> TopologyPanel:
    seen = lookout(lab)
    seen.situation.follow(lab.journal)
    seen.topology, seen.looks = found, 1
    made = TopologyPanel(seen, USERS, None)  # type: ignore[arg-type]
    open_panels.append(made)
    return made


def queues(*found: Store) -> Topology:
    return Topology("sd", "RabbitMQ", "exchange", "fanout", found)


def test_a_queue_has_a_square_a_message_and_beyond_ten_only_numbers(
    open_panels: list[Any],
) -> None:
    full, over = MOST_SQUARES, MOST_SQUARES + 1
    panel = topology(
        Lab(script().join().journal),
        open_panels,
        queues(
            Store("queue sd.eva", "eva", 0, over, "eva"),
            Store("queue sd.ana", "ana", full - 1, 1, "ana"),
            Store("queue sd.bob", "bob", 1, None, ""),
            Store("queue sd.abe", "abe", 0, 0, ""),
        ),
    )
    ana, bob, eva, _ = panel.view["lines"]  # in the order of the stage's users
    assert (ana["filled"], ana["outlined"], ana["ready"]) == (full - 1, 1, f"{full - 1} ready")
    assert (bob["filled"], bob["consumer"], bob["unacked"]) == (1, "", "")
    assert (eva["squares"], eva["outlined"], eva["unacked"]) == (False, 0, f"{over} unacked")


def test_who_does_not_answer_is_named_with_the_time_and_what_was_seen_last_stays(
    open_panels: list[Any],
) -> None:
    store = Store("queue sd.bob", "bob", 1, 0, "")
    panel = topology(Lab(script().join().journal), open_panels, queues(store))
    assert panel.view["silent"] == ""
    panel._lookout.silent_since = time.mktime((2026, 1, 2, 12, 4, 5, 0, 0, -1))
    panel.refresh()
    assert panel.view["silent"] == "RabbitMQ has not answered since 12:04"
    assert panel.view["lines"][0]["ready"] == "1 ready"


def test_a_scene_where_nobody_has_joined_offers_to_join(open_panels: list[Any]) -> None:
    panel = topology(Lab(script().journal), open_panels, None)
    assert "Nobody has joined the group sd" in panel.view["words"]
    panel.click("all join sd")
    assert [user.joined.pop() for user in USERS] == [("sd", None)] * 3


def test_many_queues_are_summed_up_in_one_line(open_panels: list[Any]) -> None:
    many = [Store(f"queue sd.u{n:02}", f"u{n:02}", 2, 0, "") for n in range(MOST_LINES + 5)]
    panel = topology(Lab(script().join().journal), open_panels, queues(*many))
    assert len(panel.view["lines"]) == MOST_LINES
    assert panel.view["words"] == "and 5 more: 10 ready"


class Answers:
    """A management API that knows one exchange."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def get(self, *path: str, **query: Any) -> Any:
        if path[0] == "exchanges":
            return self.answers["bindings" if path[-1] == "source" else "exchange"]
        if path[0] == "queues":  # without these the counts are up to a second old
            assert query["disable_stats"] == query["enable_queue_totals"] == "true"
        return self.answers[path[0]]


def asked(**answers: Any) -> Stores:
    made = Stores.__new__(Stores)
    made._lease, made._management = Lease(), Answers(**answers)  # type: ignore[assignment]
    return made


def bound(*names: str) -> list[dict[str, str]]:
    return [{"destination": name, "destination_type": "queue"} for name in names]


async def test_counts_and_consumers_of_bound_queues_are_read_from_the_api() -> None:
    found = await asked(
        exchange={"name": "sd", "type": "fanout"},
        bindings=bound("chatlab/sd/bob", "chatlab/sd/ana", "spy"),
        queues=[
            {"name": "chatlab/sd/ana", "messages_ready": 0, "messages_unacknowledged": 2},
            {"name": "chatlab/sd/bob", "messages_ready": 3, "messages_unacknowledged": 0},
            {"name": "chatlab/news/bob", "messages_ready": 9, "messages_unacknowledged": 0},
            {"name": "spy"},
        ],
        consumers=[{"queue": {"name": "chatlab/sd/ana"}}, {"queue": {"name": "spy"}}],
    ).of("sd", "rabbitmq-durable")
    assert found.kind == "exchange" and found.detail == "fanout"
    assert found.stores == (
        Store("queue sd.ana", "ana", 0, 2, "ana"),
        Store("queue sd.bob", "bob", 3, 0, ""),
        Store("queue spy", "", None, None, "1 consumer"),
    )


async def test_an_exchange_that_is_gone_or_leads_nowhere_is_said() -> None:
    nothing: dict[str, Any] = {"bindings": None, "queues": [], "consumers": []}
    found = await asked(exchange=None, **nothing).of("sd", "rabbitmq-transient")
    assert found.words == "RabbitMQ has no exchange sd." and not found.kind
    found = await asked(exchange={"type": "fanout"}, **nothing).of("sd", "as-reported")
    assert "reaches nobody" in found.words


@pytest.mark.parametrize(
    ("backend", "keeper"),
    [
        ("rabbitmq-durable:confirms=no", "rabbitmq"),
        ("as-reported", "rabbitmq"),
        ("redis-pubsub", "redis"),
        ("memory:maxlen=5", "memory"),
    ],
)
def test_each_backend_is_kept_by_one_service(backend: str, keeper: str) -> None:
    assert keeper_of(backend) == keeper


async def test_a_silence_is_dated_by_its_beginning_and_ends_with_an_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = lookout(Lab(script().join().journal))
    seen._stores = stores.Stores.__new__(stores.Stores)
    answer: list[Any] = [ServiceUnavailable("It is not there.")]

    async def of(_: Any, group: str, backend: str) -> Any:
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]

    monkeypatch.setattr(Stores, "of", of)
    await seen._look_at_stores()
    first = seen.silent_since
    await seen._look_at_stores()
    assert first and seen.silent_since == first and seen.looks == 0
    answer[0] = queues()
    await seen._look_at_stores()
    assert (seen.silent_since, seen.looks, seen.topology) == (0.0, 1, queues())


# -- the strip of the last events


def fed(s: Script) -> Tail:
    tail = Tail()
    tail.read(s.journal.rows)
    return tail


def shown(s: Script) -> tuple[list[Send], int]:
    """The sends of the last columns, and how many columns there are."""
    tail = fed(s)
    whole = strips.read(tail.journal(s.journal.header))
    story, events = newest(whole, tail.numbers(send.id for send in whole.sends))
    columns = 0
    before: Any = None
    for _, kind, id in events:
        columns += not (kind == "seen" and before == (kind, id))
        before = (kind, id)
    return list(story.sends), columns


def test_the_strip_shows_the_last_dozen_columns_and_numbers_go_on() -> None:
    s = script().join()
    for _ in range(20):
        s.send("ana", "ana", "bob", "eva")
    sends, columns = shown(s)
    assert columns == COLUMNS
    assert [send.number for send in sends] == [15, 16, 17, 18, 19, 20]
    for _ in range(85):
        s.send("ana", "ana", "bob", "eva")
    assert [send.number for send in shown(s)[0]] == [1, 2, 3, 4, 5, 6]  # 100 to 105


def test_what_waited_long_is_still_known_by_when_it_was_sent() -> None:
    """Its send is older than what is kept of the newest facts."""
    s = script().join().leave("bob")
    waiting = [s.send("ana", "ana", "eva") for _ in range(400)]
    s.come("bob").see("bob", *waiting)
    story = strips.read(fed(s).journal(s.journal.header))
    fates = {f.fate for f in story.flights if f.receiver == "bob"}
    assert fates == {"waited"}
    assert recent(fed(s), s.journal.header)[0] == "12 messages waited, 0 were lost"


def test_a_delivery_whose_send_is_forgotten_is_left_out() -> None:
    s = script().join()
    old = s.send("ana")
    tail = fed(s)
    for number in range(KEPT_SENDS):
        tail._sends[f"later {number}"] = (number, 0, ())
    s.send("ana", "bob")
    tail.read(s.journal.rows)
    assert old.id not in tail._sends
    s.see("bob", old)
    tail.read(s.journal.rows)
    kept = {fact.message.id for fact in tail.journal({}) if hasattr(fact, "message")}
    assert old.id not in kept and len(kept) == 1


def test_the_lanes_keep_the_order_of_the_labs_users_and_more_than_five_are_counted() -> None:
    names = [f"u{number}" for number in range(8)]
    s = Script(*names, users=names).join()
    s.send("u6", *(name for name in names if name != "u6"))
    picture = draw(fed(s), s.journal.header, ["u6"])
    words = [text.get_text() for text in picture.texts]
    assert [word for word in words if word in names] == ["u0", "u1", "u2", "u3", "u6"]
    assert "3 more users not drawn" in words


@pytest.mark.parametrize("kept", [True, False])
def test_the_strip_is_900_pixels_wide_and_its_finding_is_whole(kept: bool) -> None:
    s = bob_is_away(kept=kept)
    finding, png = recent(fed(s), {**s.journal.header, "users": ["ana", "bob", "eva"]})
    assert struct.unpack(">II", png[16:24]) == (900, strips.HEIGHT)
    expected = "Bob was away: 3 messages waited, 0 were lost"
    assert finding == (expected if kept else "3 messages were lost while bob was away")
    texts = [t.get_text() for t in draw(fed(s), s.journal.header).texts]
    assert finding in texts


def test_drawing_in_a_panels_thread_leaves_matplotlibs_settings_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They belong to the process: a cell may be drawing with them just now."""
    written: list[str] = []
    change = matplotlib.RcParams.__setitem__

    def watched(self: Any, key: str, value: Any) -> None:
        written.append(key)
        change(self, key, value)

    monkeypatch.setattr(matplotlib.RcParams, "__setitem__", watched)
    monkeypatch.setattr(matplotlib.RcParams, "update", lambda *a, **k: written.append("update"))
    s = bob_is_away(kept=True)
    recent(fed(s), s.journal.header)
    assert written == []


def drawn(panel: Recent) -> dict[str, Any]:
    """The panel's view when the drawing under way is done."""
    deadline = time.monotonic() + 10
    while panel._drawing is not None and time.monotonic() < deadline:
        time.sleep(0.005)
        panel.refresh()
    return dict(panel.view)


def test_the_strip_is_drawn_again_only_when_there_is_something_new(
    open_panels: list[Any],
) -> None:
    s = script().join()
    s.send("ana", "ana", "bob", "eva")
    panel = Recent(Lab(s.journal), "sd", USERS)  # type: ignore[arg-type]
    open_panels.append(panel)
    view = drawn(panel)
    assert view["finding"] == "Nobody was away: 1 message, seen" and view["picture"]
    panel._free_at = 0.0
    panel.refresh()
    assert panel._drawing is None
    s.send("ana", "ana", "bob", "eva")
    panel.refresh()
    assert drawn(panel)["finding"] == "Nobody was away: 2 messages, all seen"
    s.send("ana", "ana", "bob", "eva")
    panel.refresh()
    assert panel._drawing is None  # not so soon
    assert len(panel.table()) == 6


# -- the page for a lecture


def test_the_notebook_of_the_page_gets_the_backend_as_text() -> None:
    path = Path(lecture.__file__).parent / "panels" / "look" / "stage.ipynb"
    cells = json.loads(lecture.with_parameters(path, "redis-stream:maxlen=5"))["cells"]
    given: dict[str, Any] = {}
    exec(cells[0]["source"], given)
    assert given["backend"] == "redis-stream:maxlen=5" and Path(given["folder"]).is_dir()
    assert "panels.stage(lab, backend=backend)" in "".join(cells[1]["source"])


def test_a_port_that_is_taken_is_refused_by_name_and_without_a_wish_another_is_found() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((lecture.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=str(port)):
            lecture._free(port)
    assert lecture._free(0) > 0

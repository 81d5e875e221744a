"""Two clients in real terminals and a chat server: what their users see and can do."""

from __future__ import annotations

import os
import signal

from tmux_rig import Window, World

from chatlab.discovery import Registry
from chatlab.resp import Redis

#: Begins a colour.
COLOUR = "\x1b[38;"
#: ESC, a C1 control, OSC, bidi override, zero width, tab.
HARMFUL = "ping \x1b]2;owned\x07 \x1b[31mred \x9b2J \u202ecba \u200b \t end"
HARMLESS = "ping ␛]2;owned␇ ␛[31mred <U+009B>2J <U+202E>cba <U+200B> ⇥ end"


def test_private_messages_go_both_ways_and_leave_a_half_typed_line_alone(
    ana: Window, bob: Window
) -> None:
    ana.enter("1")
    ana.wait("with whom>")
    ana.enter("bob")
    ana.wait("private chat · mailbox-redis · is there", "ana>")
    ana.enter("hola bob")
    ana.wait("hola bob  ✓✓ bob has it")
    bob.wait("ana              private chat · 1 unread", "ana 1   connected")
    bob.enter("ana")
    bob.wait("ana  hola bob", "bob>", without="choose>")
    bob.type("half a ")
    bob.wait("bob> half a")
    ana.enter("meanwhile")
    bob.wait("ana  meanwhile")
    assert bob.typed == "bob> half a"
    bob.enter("line")
    ana.wait("bob  half a line")
    bob.wait("bob  half a line  ✓✓ ana has it")


def test_what_a_terminal_would_obey_is_shown_and_does_nothing(ana: Window, bob: Window) -> None:
    ana.enter("1 bob")
    ana.wait("ana>")
    bob.enter("1 ana")
    bob.wait("bob>")
    ana.paste(HARMFUL)
    ana.wait("end", "ana> ping")
    ana.type("Enter")
    for one, name in ((ana, "bob"), (bob, "ana")):
        one.wait(f"ana  {HARMLESS}")
        assert not {"\u202e", "\u200b", "\x9b", "\x07"} & set(one.raw)
        assert one.raw.startswith(f"chatlab · {'ana' if one is ana else 'bob'}\n"), name


def test_a_person_can_be_called_straight_without_a_chat_server_between(
    ana: Window, bob: Window
) -> None:
    ana.enter("1 bob direct")
    ana.wait("private chat · direct · is there", "ana>")
    ana.enter("straight")
    ana.wait("straight  ✓✓ bob has it")
    bob.wait("1 unread")
    bob.enter("1 ana direct")
    bob.wait("ana  straight", "bob>")
    bob.enter("and back")
    ana.wait("bob  and back")
    for one in (ana, bob):
        one.enter("/mailbox")
        one.wait("private chat · mailbox-redis")


def test_a_transient_group_is_left_without_asking_and_keeps_nothing(
    ana: Window, bob: Window
) -> None:
    ana.enter("3 fleeting")
    ana.wait("fleeting is new: transient or durable?")
    ana.enter("transient")
    ana.wait("You are subscribed to fleeting (rabbitmq-transient).", "while you are here")
    ana.enter("2 fleeting")
    ana.wait("group · rabbitmq-transient · there: ana")
    ana.enter("alone")
    ana.wait("alone  ✗ nobody else listens to fleeting")
    bob.enter("2 fleeting")
    bob.wait("group · rabbitmq-transient · there: ana, bob", "bob>")
    ana.wait("bob joined")
    ana.enter("together")
    bob.wait("ana  together")
    ana.wait("together  ✓ confirmed · 1 listens")
    bob.type("C-c")
    bob.wait("choose>", "You left fleeting", without="for good?")
    ana.wait("bob left")
    ana.enter("missed")
    ana.wait("missed  ✗ nobody else listens")
    bob.enter("2 fleeting")
    bob.wait("there: ana, bob", without="missed")
    ana.wait("bob joined")
    ana.enter("/leave")
    ana.wait("You left fleeting")


def test_a_durable_group_keeps_messages_until_it_is_left_for_good(
    ana: Window, bob: Window
) -> None:
    bob.enter("3 lasting durable")
    bob.wait("You are subscribed to lasting (rabbitmq-durable).")
    ana.enter("2 lasting")
    ana.wait("there: ana, bob", "ana>")
    ana.enter("first")
    ana.wait("first  ✓ confirmed · 1 listens")
    bob.wait("lasting          group, rabbitmq-durable · 1 unread", "lasting 1   connected")
    bob.enter("2 lasting")
    bob.wait("ana  first", without="1 unread")
    bob.enter("/leave")
    bob.wait("leave for good? then its queue is deleted")
    bob.enter("")
    bob.wait("lasting stays yours", "choose>")
    bob.type("C-c")  # quits; the queue stays
    assert bob.ended() == 0
    ana.wait("bob is away now", "away: bob")
    ana.enter("while you are away")
    ana.wait("while you are away  ✓ confirmed · 1 waits")
    bob.again()
    bob.wait("lasting          group, rabbitmq-durable · 1 unread")
    bob.enter("lasting")
    bob.wait("ana  while you are away", "bob>")
    bob.enter("/leave")
    bob.wait("for good?")
    bob.enter("y")
    bob.wait("You left lasting: you get nothing more of it.", "choose>")
    ana.wait("bob left")
    ana.enter("too late")
    ana.wait("too late  ✗ nobody else listens")


def test_each_insult_reaches_one_and_who_only_listens_sends_none(
    ana: Window, bob: Window
) -> None:
    ana.enter("5")
    ana.wait("both / listen")
    ana.enter("both")
    ana.wait("insult channel · rabbitmq · you send and draw")
    bob.enter("5 listen")
    bob.wait("you only listen")
    for number in (1, 2):
        ana.enter(f"toad {number}")
        ana.wait(f"toad {number}  ✓ confirmed · 2 listen")
    ana.wait("your own came back to you")
    bob.wait("ana  toad")
    drawn = [one.screen.count("ana  toad") for one in (ana, bob)]
    assert drawn == [3, 1]  # two sent and one that came back; one
    bob.enter("frog")
    bob.wait("You only listen here.", "bob> frog")
    bob.type("C-u")
    bob.enter("/both")
    bob.wait("you send and draw")
    bob.enter("newt")
    bob.wait("bob  newt  ✓ confirmed")


def test_who_is_there_is_asked_in_each_way(ana: Window, bob: Window) -> None:
    ana.enter("4")
    ana.wait("which way (registry, management, events, broker-events)?")
    ana.enter("")
    ana.wait("who is there, by registry", "2 messages")
    for way in ("management", "events", "broker-events"):
        ana.enter(way)
        ana.wait(f"who is there, by {way}", "  ana  ", "  bob  ", "messages")
    ana.enter("telepathy")
    ana.wait("There is no way 'telepathy'.", "choose>")


def test_a_killed_chat_server_is_said_and_nothing_is_lost(
    world: World, ana: Window, bob: Window
) -> None:
    ana.enter("1 bob")
    ana.wait("ana>")
    bob.enter("1 ana")
    bob.wait("bob>")
    world.kill_server()
    for one in (ana, bob):
        one.wait("the chat server is away; trying again …", "chat server ✗ away")
    ana.enter("during")
    ana.wait("ana  during  sending …")
    world.serve()
    for one in (ana, bob):
        one.wait("the chat server is back after", " connected")
    ana.until(
        lambda: "during  ✓✓ bob has it" in ana.screen or "/again" in ana.screen, "an outcome"
    )
    if "✓✓ bob has it" not in ana.screen.partition("during")[2]:
        ana.enter("/again")
    bob.wait("ana  during")
    ana.wait("during  ✓✓ bob has it")
    assert bob.screen.count("ana  during") == 1


def test_a_killed_client_finds_what_waited_for_it(ana: Window, bob: Window) -> None:
    ana.enter("1 bob")
    ana.wait("ana>")
    os.kill(bob.pid, signal.SIGKILL)
    assert bob.ended() == -signal.SIGKILL
    ana.wait("is not there now", "bob has gone")
    for number in (1, 2):
        ana.enter(f"for later {number}")
    ana.wait("for later 1  ✓ waits for bob", "for later 2  ✓ waits for bob (2 wait)")
    bob.again()
    bob.wait("private chat · 2 unread")
    bob.enter("1 ana")
    screen = bob.wait("for later 1", "for later 2")
    assert screen.index("for later 1") < screen.index("for later 2")
    assert screen.count("for later") == 2
    ana.wait("for later 2  ✓✓ bob has it", "bob is there")


def test_without_a_chat_server_groups_work_and_one_that_starts_is_found(
    world: World, ana: Window, bob: Window
) -> None:
    world.kill_server()
    ana.wait("chat server ✗ away")
    eva = world.client("eva")
    eva.wait("chat server ✗")
    eva.wait("chat server ✗ none yet; start one: chatlab server")
    eva.enter("1 ana")
    eva.wait("eva>")
    eva.enter("too early")
    eva.wait("There is no chat server.", "chatlab server", "eva> too early")
    eva.type("C-c")
    eva.wait("choose>")
    eva.enter("3 news transient")
    eva.wait("You are subscribed to news")
    ana.enter("2 news")
    ana.wait("ana>")
    ana.enter("there is news")
    eva.wait("news 1   chat server ✗")
    world.serve()
    eva.wait(" connected", without="✗")
    eva.enter("1 ana")
    eva.wait("eva> too early")  # what was typed is not lost
    eva.type("Enter")
    eva.wait("too early  ✓✓ ana has it")
    eva.close()  # the window is closed: SIGHUP
    ana.wait("eva left")
    bob.enter("4 registry")
    bob.wait("who is there, by registry", "  ana  ", without="  eva  ")


def test_ctrl_c_leaves_the_conversation_and_twice_the_program(bob: Window) -> None:
    bob.enter("1 ana")
    bob.wait("bob>")
    bob.type("C-c")
    bob.wait("choose>")
    bob.enter("3 lasting durable")
    bob.wait("You are subscribed")
    bob.enter("2 lasting")
    bob.wait("bob>")
    bob.type("C-c")
    bob.wait("for good?")
    bob.type("C-c")
    assert bob.ended() == 0
    assert "Traceback" not in bob.screen
    bob.again()
    bob.wait("lasting          group, rabbitmq-durable")  # it was not left for good
    os.kill(bob.pid, signal.SIGTERM)
    assert bob.ended() == 0
    bob.again()
    bob.wait("choose>", "connected")


def test_a_second_window_takes_over_and_the_first_says_so(world: World, bob: Window) -> None:
    second = world.client("second", "bob")
    second.wait("choose>", "connected")
    assert bob.ended() == 1
    screen = bob.wait("A newer client of bob has taken over (incarnation")
    assert "Go on in the newer window" in screen and "Traceback" not in screen
    second.enter("q")
    assert second.ended() == 0


def test_a_name_is_asked_for_until_it_can_be_had(world: World, ana: Window) -> None:
    async def take() -> None:
        redis = Redis(world.lease.redis)
        await Registry(redis, 1.5).create_account("dan", "another's secret")
        await redis.close()

    world.call(take())
    window = world.client("asked", "dan", NO_COLOR="1")
    window.wait(
        "The account dan exists and has another secret.", "Choose another name", "name>"
    )
    window.enter("not a name")
    window.wait("holds a character that is not allowed", "Letters, digits", "name>")
    window.enter("mia")
    window.wait("mia  chatlab · ", "choose>")
    assert COLOUR in ana.raw and COLOUR not in window.raw
    window.enter("q")
    assert window.ended() == 0

"""Delivery and fan-out: right histories pass, each wrong one is caught with its example."""

from __future__ import annotations

import pytest
from checkers_script import SD, Run
from plots_script import bob_is_away

from chatlab.checkers import judge
from chatlab.messages import Message, private


def numbers(run: Run, checker: str = "delivery") -> list[int]:
    return [number for number, _ in run.check(checker).example.lines]


def test_what_was_sent_and_shown_is_kept() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    found = run.check("delivery")
    assert (found.outcome, found.counts["delivered"], found.counts["lost"]) == ("kept", 2, 0)
    assert not found.example
    assert judge(run.journal).outcome == "kept"


def test_a_loss_that_nothing_explains_is_broken_and_its_lines_are_the_example() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    gone = run.send("ana", "ana")
    run.settle()
    found = run.check("delivery")
    assert (found.outcome, found.counts["lost"], found.counts["not_promised"]) == (
        "broken",
        1,
        0,
    )
    assert found.example.messages == (gone.id,)
    assert "bob" in found.example.expected and gone.id in found.example.expected
    assert numbers(run) == [
        run.line("Subscribed", "bob"),
        run.line("Sent", gone),
        run.line("Confirmed", gone.id),
        run.line("Drained"),
    ]
    assert all(text.startswith("[") for _, text in found.example.lines)
    assert judge(run.journal).lost == 1


def test_of_several_losses_the_smallest_is_the_example() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana")
    run.leave("bob").come("bob")
    small = run.send("ana", "ana")
    run.settle()
    assert run.check("delivery").counts["lost"] == 2
    assert run.check("delivery").example.messages == (small.id,)


def test_one_that_was_passed_over_is_lost_without_waiting() -> None:
    run = Run("ana", "bob").join()
    gone = run.send("ana", "ana")
    run.send("ana", "ana", "bob")
    found = run.check("delivery")
    assert (found.outcome, found.example.messages) == ("broken", (gone.id,))


def test_a_run_that_ends_too_soon_proves_nothing() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana")
    assert run.check("delivery").outcome == "cannot tell"
    assert run.check("delivery").counts["under_way"] == 1


def test_what_comes_slowly_is_not_lost_while_it_comes() -> None:
    run = Run("ana", "bob").join()
    first, second = run.send("ana", "ana"), run.send("ana", "ana")
    run.wait(4.9).see("bob", first).fact("Drained", "", "", 1)
    assert run.check("delivery").outcome == "cannot tell"
    run.see("bob", second)
    assert run.check("delivery").outcome == "kept"


def test_while_a_fault_goes_on_nothing_is_lost_yet() -> None:
    run = Run("ana", "bob").join().fault("pause", "rabbitmq")
    run.send("ana", "ana")
    assert run.settle().check("delivery").outcome == "cannot tell"
    assert run.over("pause", "rabbitmq").settle().check("delivery").outcome == "broken"


def test_what_waits_for_the_absent_cannot_be_told_yet() -> None:
    run = Run("ana", "bob").join().leave("bob")
    run.send("ana", "ana")
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["waiting"], found.counts["lost"]) == (
        "cannot tell",
        1,
        0,
    )


def test_who_is_away_is_promised_nothing_by_a_transient_group() -> None:
    found = judge(bob_is_away(kept=False).journal)
    assert (found.outcome, found.lost) == ("not promised", 3)
    assert judge(bob_is_away(kept=True).journal).outcome == "kept"


def test_what_as_reported_loses_is_broken() -> None:
    """It is judged by what a user of a chat is promised."""
    run = Run("ana", "bob", backend="as-reported").join().leave("bob")
    message = run.message("ana", "sd")
    run.fact("Sent", "ana", SD, message).see("ana", message)
    found = run.come("bob").settle().check("delivery")
    assert (found.outcome, found.counts["lost"]) == ("broken", 1)
    assert found.backend == "as-reported"


@pytest.mark.parametrize(
    ("backend", "outcome"),
    [
        ("rabbitmq-durable", "broken"),
        ("rabbitmq-durable:persistent=no", "not promised"),
        ("rabbitmq-transient", "not promised"),
        ("redis-stream", "broken"),  # it does not depend on RabbitMQ at all
        ("as-reported", "broken"),
        ("of-my-own", "broken"),
    ],
)
def test_a_loss_by_a_killed_broker_is_judged_by_the_row(backend: str, outcome: str) -> None:
    run = Run("ana", "bob", backend=backend).join()
    run.send("ana", "ana")
    run.fault("kill", "rabbitmq").fact("Disconnected", "bob", SD, "it broke")
    run.over("kill", "rabbitmq").reach("bob").settle()
    assert run.check("delivery").outcome == outcome


def test_a_loss_that_the_fault_did_not_touch_stays_broken() -> None:
    """It was passed over before the broker was killed."""
    run = Run("ana", "bob", backend="rabbitmq-durable:persistent=no").join()
    gone = run.send("ana", "ana")
    run.send("ana", "ana", "bob")
    run.fault("kill", "rabbitmq").over("kill", "rabbitmq").settle()
    assert run.check("delivery").outcome == "broken"
    assert run.check("delivery").example.messages == (gone.id,)


def test_an_exchange_that_a_restart_forgot_excuses_until_the_member_is_back() -> None:
    run = Run("ana", "bob", backend="rabbitmq-durable:exchange=transient").join().leave("bob")
    run.fault("restart", "rabbitmq").over("restart", "rabbitmq")
    run.send("ana", "ana")
    run.come("bob")
    later = run.send("ana", "ana", "bob")
    assert run.settle().check("delivery").outcome == "not promised"
    run.see("bob", later)  # a second copy of another changes nothing of it
    run.send("ana", "ana")
    assert run.settle().check("delivery").counts["lost"] == 2
    assert run.check("delivery").outcome == "broken"


def test_a_cut_link_is_the_receivers_own_and_to_its_own_broker() -> None:
    for target, outcome in (
        ("bob-rabbitmq", "not promised"),
        ("bob-redis", "broken"),
        ("ana-rabbitmq", "broken"),
    ):
        run = Run("ana", "bob", backend="rabbitmq-transient").join()
        run.send("ana", "ana", "bob")
        run.fault("cut", target)
        run.send("ana", "ana")
        run.over("cut", target).settle()
        assert run.check("delivery").outcome == outcome, target


def test_without_confirms_what_was_sent_is_owed_and_the_senders_link_counts() -> None:
    def sent(cut: bool) -> Run:
        run = Run("ana", "bob", backend="rabbitmq-durable:confirms=no").join()
        if cut:
            run.fault("cut", "ana-rabbitmq")
        run.send("ana", "ana", outcome="")
        return (run.over("cut", "ana-rabbitmq") if cut else run).settle()

    assert sent(cut=False).check("delivery").outcome == "broken"
    assert sent(cut=True).check("delivery").outcome == "not promised"


def test_a_crash_excuses_what_was_held_only_where_it_does() -> None:
    for backend, outcome in (("rabbitmq-durable", "broken"), ("redis-pubsub", "not promised")):
        run = Run("ana", "bob", backend=backend).join()
        run.send("ana", "ana")
        run.crash("bob").revive("bob").reach("bob").settle()
        assert run.check("delivery").outcome == outcome


def test_the_unknown_is_no_loss_and_when_shown_recovered() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob", outcome="Uncertain")
    run.send("ana", outcome="Uncertain")
    found = run.settle().check("delivery")
    assert found.outcome == "kept"
    assert (found.counts["uncertain"], found.counts["recovered"], found.counts["lost"]) == (
        2,
        2,
        0,
    )


def test_what_is_sent_to_nobody_or_refused_is_no_loss() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    for outcome in ("Returned", "Failed"):
        run.send("ana", outcome=outcome)
    assert run.settle().check("delivery").outcome == "kept"


def test_what_was_called_failed_and_is_shown_is_broken() -> None:
    run = Run("ana", "bob").join()
    message = run.send("ana", "ana", "bob", outcome="Failed")
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["denied"]) == ("broken", 2)
    assert numbers(run)[:2] == [run.line("Sent", message), run.line("Failed", message.id)]


def test_a_message_sent_again_under_its_id_is_one_message() -> None:
    run = Run("ana", "bob").join()
    message = run.send("ana", "ana", "bob", outcome="Uncertain")
    run.fact("Sent", "ana", SD, message).result(message, SD, "Confirmed")
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["sent"], found.counts["confirmed"]) == ("kept", 1, 1)


def test_the_same_text_sent_again_under_a_new_id_and_shown_twice_is_broken() -> None:
    run = Run("ana", "bob").join()
    first = run.send("ana", "ana", "bob", outcome="Uncertain")
    second = run.send("ana", "ana", "bob")
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["doubled"]) == ("broken", 2)
    assert found.example.messages == (first.id, second.id)
    ordinary = Run("ana", "bob").join()  # all its messages say the same
    for outcome in ("Confirmed", "Uncertain", "Confirmed"):
        ordinary.send("ana", "ana", "bob", outcome=outcome)
    assert ordinary.settle().check("delivery").outcome == "kept"


def test_what_nobody_sent_is_unexpected() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.see("bob", Message("ghost", "eva", 1, "sd", "boo", 1, 0.0, 1))
    found = run.check("delivery")
    assert (found.outcome, found.counts["unexpected"]) == ("broken", 1)
    assert numbers(run) == [run.line("Delivered", "bob") + 2]
    assert found.example.messages == ("ghost",)


def test_an_outsider_writes_no_journal_and_is_not_unexpected() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.see("bob", Message("outsider:1", "zoe", 0, "sd", "hi", 0, 0.0, 0))
    found = run.check("delivery")
    assert (found.outcome, found.counts["outsiders"]) == ("kept", 1)
    assert (found.counts["unexpected"], found.counts["delivered"]) == (0, 2)


def test_a_second_copy_in_one_life_is_broken_marked_or_not() -> None:
    for marked, name in ((False, "duplicated"), (True, "marked")):
        run = Run("ana", "bob").join()
        message = run.send("ana", "ana", "bob")
        run.see("bob", message, again=marked)
        found = run.check("delivery")
        assert (found.outcome, found.counts[name]) == ("broken", 1)
        assert found.example.messages == (message.id,)
        assert len(found.example.lines) == 2


def test_a_copy_for_a_new_life_is_what_a_crash_costs() -> None:
    run = Run("ana", "bob").join()
    message = run.send("ana", "ana", "bob")
    run.crash("bob").revive("bob").reach("bob").see("bob", message, again=True)
    found = run.check("delivery")
    assert (found.outcome, found.counts["repeated"], found.counts["duplicated"]) == (
        "kept",
        1,
        0,
    )


def test_everybody_leaving_at_the_end_does_not_hide_a_loss() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana", "bob")
    run.send("ana", "ana")
    run.wait(2).send("ana", "ana", "bob")
    run.leave("ana").leave("bob")
    assert run.check("delivery").outcome == "broken"
    settled = Run("ana", "bob").join()
    settled.send("ana", "ana")
    settled.settle().leave("ana").leave("bob")
    assert settled.check("delivery").outcome == "broken"


def test_nothing_sent_and_an_empty_journal_prove_nothing() -> None:
    assert judge(Run("ana").journal).outcome == "cannot tell"
    assert judge(Run("ana", "bob").join().journal).outcome == "cannot tell"


# -- private chats


def test_a_mailbox_keeps_what_came_while_bob_was_away() -> None:
    run = Run("ana", "bob").mailbox()
    run.fact("Disconnected", "bob", "mailbox", "").fact("Disconnected", "bob", "", "")
    message = run.write("ana", "bob", seen=False)
    run.fact("Connected", "bob", "", "", "").mailbox("bob")
    assert run.settle().check("delivery").outcome == "broken"
    run.see("bob", message, chat=private("ana", "bob"))
    assert run.check("delivery").outcome == "kept"


@pytest.mark.parametrize(
    ("backend", "outcome"),
    [
        ("mailbox-redis", "broken"),
        ("mailbox-memory", "not promised"),
        ("as-reported", "broken"),
    ],
)
def test_a_killed_chat_server_takes_along_what_its_memory_held(
    backend: str, outcome: str
) -> None:
    run = Run("ana", "bob").mailbox("ana", backend=backend)
    run.write("ana", "bob", seen=False)
    run.fault("kill", "server").over("kill", "server").mailbox("bob", backend=backend)
    assert run.settle().check("delivery").outcome == outcome


def test_a_direct_confirm_is_the_receivers_own() -> None:
    chat = private("ana", "bob")
    run = Run("ana", "bob").fact("Connected", "ana", chat, "direct", "both")
    run.fact("Connected", "bob", chat, "direct", "both")
    run.write("ana", "bob")
    assert run.settle().check("delivery").outcome == "kept"
    run.write("ana", "bob", seen=False)
    run.fact("Disconnected", "bob", chat, "").fact("Disconnected", "bob", "", "")
    assert run.settle().check("delivery").outcome == "broken"
    assert run.check("delivery").backend == "direct"


def test_a_private_message_shown_to_another_is_astray() -> None:
    run = Run("ana", "bob", "eva").mailbox()
    message = run.write("ana", "bob")
    run.see("eva", message, chat=private("ana", "bob"))
    found = run.check("delivery")
    assert (found.outcome, found.counts["astray"]) == ("broken", 1)
    assert "bob" in found.example.expected and "eva" in found.example.expected


def test_both_ends_of_a_private_chat_may_use_the_same_id() -> None:
    chat = private("ana", "bob")
    run = Run("ana", "bob").mailbox()
    for sender, receiver in (("ana", "bob"), ("bob", "ana")):
        message = run.message(sender, receiver)._replace(id="1")
        run.fact("Sent", sender, chat, message).result(message, chat, "Confirmed")
        run.see(receiver, message, chat=chat)
    found = run.check("delivery")
    assert (found.outcome, found.counts["sent"], found.counts["repeated"]) == ("kept", 2, 0)


# -- fan-out


def test_every_subscriber_is_owed_what_was_sent_while_it_was_one() -> None:
    run = Run("ana", "bob", "eva").join("ana", "eva")
    run.send("ana", "ana", "eva")  # bob is late
    run.join("bob").fact("Left", "eva", SD)
    run.send("ana", "ana", "bob")  # eva has left
    found = run.settle().check("fan-out")
    assert (found.outcome, found.counts["owed"], found.counts["members"]) == ("kept", 4, 3)


def test_a_shared_queue_shows_as_members_with_a_part_each() -> None:
    run = Run("ana", "bob", "eva").join()
    for number in range(4):
        run.send("ana", "ana", ("bob", "eva")[number % 2])
    found = run.settle().check("fan-out")
    assert (found.outcome, found.counts["missed"], found.counts["members_short"]) == (
        *("broken", 4),
        2,
    )
    assert "bob 2 of 4" in found.why and "eva 2 of 4" in found.why
    assert len(found.example.messages) == 1


def test_what_is_shown_to_who_is_no_member_is_broken() -> None:
    run = Run("ana", "bob", "eva").join("ana", "bob")
    run.send("ana", "ana", "bob", "eva")
    found = run.settle().check("fan-out")
    assert (found.outcome, found.counts["strangers"]) == ("broken", 1)
    assert "eva" in found.example.expected


def test_a_group_of_one_is_a_figure() -> None:
    run = Run("ana").join()
    run.send("ana", "ana")
    found = run.settle().check("fan-out")
    assert (found.outcome, found.counted) == ("cannot tell", False)
    assert judge(run.journal).outcome == "kept"


def test_of_several_mailboxes_those_that_both_have_opened_count() -> None:
    run = Run("ana", "bob").mailbox("ana", backend="mailbox-memory").mailbox()
    run.write("ana", "bob")
    assert run.check("delivery").backend == "mailbox-redis"
    run.mailbox("bob", backend="mailbox-memory").write("ana", "bob", seen=False)
    run.fault("kill", "server").over("kill", "server")
    found = run.settle().check("delivery")
    assert found.backend == "mailbox-memory + mailbox-redis"
    assert found.outcome == "not promised", "the journal cannot say which held it"
    other = Run("ana", "bob").mailbox().mailbox(backend="mailbox-memory")
    other.write("ana", "bob", seen=False)
    other.fault("kill", "server").over("kill", "server")
    assert other.settle().check("delivery").outcome == "not promised"


def test_who_never_opened_its_mailbox_is_waited_for() -> None:
    run = Run("ana", "bob").mailbox("ana")
    run.write("ana", "bob", seen=False)
    assert run.settle().check("delivery").counts["waiting"] == 1


def test_what_is_sent_to_who_was_frozen_and_then_killed_is_sent_to_the_absent() -> None:
    """``maxlen`` promises nothing to the absent, and all to who is killed."""
    run = Run("ana", "bob", backend="redis-stream:maxlen=5").join()
    run.fact("Frozen", "bob", "").crash("bob")
    run.send("ana", "ana")
    run.revive("bob").reach("bob")
    assert run.settle().check("delivery").outcome == "not promised"


# -- what may still come


def test_a_settle_before_the_message_says_nothing_of_it() -> None:
    run = Run("ana", "bob").join()
    run.fact("Drained", "", "", 0)
    run.send("ana", "ana")
    assert run.check("delivery").outcome == "cannot tell"
    run.fact("Drained", "", "", 0)
    assert run.check("delivery").outcome == "broken", "settle found nothing left anywhere"


def test_who_is_just_back_may_be_shown_it_any_moment() -> None:
    run = Run("ana", "bob").join().leave("bob")
    run.send("ana", "ana")
    run.wait(5).come("bob").wait(0.2).fact("Drained", "", "", 1)
    assert run.check("delivery").counts["under_way"] == 1


def test_who_came_back_after_the_last_settle_was_there_at_the_end() -> None:
    run = Run("ana", "bob").join().leave("bob")
    run.send("ana", "ana")
    run.settle().come("bob")
    run.wait(2).fact("Thawed", "ana", "")
    assert run.check("delivery").outcome == "broken"


def test_everybody_leaving_at_once_is_the_end_and_no_absence() -> None:
    run = Run("ana", "bob").join()
    run.send("ana", "ana")
    run.wait(2).leave("ana").leave("bob")
    assert run.check("delivery").outcome == "broken"
    one_is_left = Run("ana", "bob").join()
    one_is_left.send("ana", "ana")
    one_is_left.wait(2).leave("bob")
    assert one_is_left.check("delivery").counts["waiting"] == 1


def test_one_that_is_online_again_and_not_yet_connected_is_absent() -> None:
    for gone in ("Crashed", "Disconnected"):
        run = Run("ana", "bob").join()
        run.fact(gone, "bob", "", *([""] if gone == "Disconnected" else []))
        run.send("ana", "ana")
        run.revive("bob")
        assert run.settle().check("delivery").counts["waiting"] == 1, gone


def test_one_that_was_frozen_when_it_was_killed_is_there_in_its_next_life() -> None:
    run = Run("ana", "bob").join().fact("Frozen", "bob", "")
    run.send("ana", "ana")
    run.crash("bob").revive("bob").reach("bob")
    assert run.settle().check("delivery").outcome == "broken"
    transient = Run("ana", "bob", backend="rabbitmq-transient").join().fact("Frozen", "bob", "")
    transient.send("ana", "ana")
    transient.fact("Thawed", "bob", "")
    found = transient.settle().check("delivery")
    assert (found.outcome, found.why.split(";")[0]) == (
        *("not promised", "1 lost: its receiver was killed or frozen"),
    )


def test_a_lost_connection_of_the_sender_counts_where_it_is_told_nothing() -> None:
    run = Run("ana", "bob", backend="rabbitmq-durable:confirms=no").join()
    run.fact("Disconnected", "ana", SD, "it broke")
    run.send("ana", outcome="")
    run.reach("ana").see("ana", run.send("ana", "bob", outcome=""))
    found = run.settle().check("delivery")
    assert (found.outcome, found.counts["lost"]) == ("not promised", 2)


def test_what_waits_is_no_fan_out_yet_and_who_has_left_is_no_member() -> None:
    run = Run("ana", "bob").join().leave("bob")
    run.send("ana", "ana")
    assert run.settle().check("fan-out").outcome == "cannot tell"
    run = Run("ana", "bob").join()
    message = run.send("ana", "ana")
    run.fact("Left", "bob", SD).see("bob", message)
    assert run.settle().check("fan-out").counts["strangers"] == 1

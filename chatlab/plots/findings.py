"""The titles: what a picture shows, as one computed sentence. Pure.

Each function returns wordings from the fullest to the shortest; the picture takes the first
that fits its width.
"""

from __future__ import annotations

from collections.abc import Sequence

from chatlab.plots.story import Story
from chatlab.plots.words import counted, fault_words, named, sentence, was


def spacetime_finding(stories: Sequence[Story]) -> list[str]:
    """``Bob was away: 3 messages waited, 0 were lost``."""
    if len(stories) == 1:
        return _one(stories[0])
    parts = list(dict.fromkeys(strip_finding(story) for story in stories))
    who = {_who(story) for story in stories}
    start = f"{who.pop()}: " if len(who) == 1 and "" not in who else ""
    if len(parts) == 1:
        same = "both" if len(stories) == 2 else f"all {len(stories)}"
        return [sentence(f"{start}{parts[0]} in {same}"), sentence(f"{parts[0]} in {same}")]
    # "3 messages waited, or 3 were lost": the noun once.
    later = [part.replace(" messages ", " ").replace(" message ", " ") for part in parts[1:]]
    words = ", or ".join([parts[0], *later])
    return [sentence(start + words), sentence(words), f"{len(stories)} scenes compared"]


def strip_finding(story: Story) -> str:
    """What happened to the messages: ``3 waited, 0 lost``."""
    lost, waited = story.count("lost"), story.count("waited", "waiting")
    if not story.sends:
        return "no messages"
    if waited and lost:
        return f"{waited:,} waited, {lost:,} lost"
    if lost:
        return f"{counted(lost, 'message')} {was(lost)} lost"
    if waited:
        return f"{counted(waited, 'message')} waited"
    return _rest(story)


def _one(story: Story) -> list[str]:
    lost, waited, waiting = (story.count(fate) for fate in ("lost", "waited", "waiting"))
    openings = starts(story)
    if not story.sends:
        return ["No messages were sent"]
    if lost and not (waited or waiting):
        words = f"{counted(lost, 'message')} {was(lost)} lost"
        if _who(story) and not _only_fault(story):
            return [f"{words} while {_cause(story)}", words]
        return [f"{words} when {_fault(story)}" if _fault(story) else words, words]
    if waiting and not waited:
        verb = "waits" if waiting == 1 else "wait"
        ends = [f"{counted(waiting, 'message')} still {verb}, {lost:,} {was(lost)} lost"]
    elif waited:
        ends = [f"{counted(waited + waiting, 'message')} waited, {lost:,} {was(lost)} lost"]
    elif story.repeated:
        ends = [f"{counted(story.repeated, 'message')} came again, 0 were lost"]
    else:
        ends = _rests(story)
        if not openings and len(ends) == 1:
            openings = ["nobody was away"]
    whole = [sentence(f"{start}: {end}") for end in ends for start in openings]
    return [*whole, *map(sentence, ends)]


def starts(story: Story) -> list[str]:
    """What befell the users and the services, from the fullest wording to the shortest."""
    who, fault = _who(story), _fault(story)
    if not (who and fault):
        return [words for words in (who or fault,) if words]
    if _only_fault(story):
        return [fault]
    if len(_faults(story)) > 1:
        return [who]
    brief = who.replace(" was ", " ").replace(" were ", " ")
    return [f"{who}, {fault}", f"{brief}, {_faults(story)[0]}", who]


def _only_fault(story: Story) -> bool:
    """Was nobody absent but by the one fault there was?"""
    names = _faults(story)
    cut_off = all(absence.why == "not connected" for absence in story.absences)
    links = all(name.endswith("link cut") for name in names)
    return bool(names) and cut_off and (len(names) == 1 or links)


def _rest(story: Story) -> str:
    return _rests(story)[0]


def _rests(story: Story) -> list[str]:
    """When nothing was lost and nothing waited."""
    total = len(story.sends)
    refused = sum(send.outcome in ("refused", "returned") for send in story.sends)
    open = story.count("under way", "unknown")
    if refused:
        which = f"{refused:,} of {counted(total, 'message')}" if total > 1 else "the message"
        return [f"{which} reached nobody, the sender was told", f"{which} reached nobody"]
    if open:
        return [f"{counted(total, 'message')}, {open:,} not seen yet"]
    return [f"{counted(total, 'message')}, {'all ' if total > 1 else ''}seen"]


_CAUSES = {"offline": "away", "crashed": "crashed", "frozen": "frozen", "not connected": "away"}


def _who(story: Story) -> str:
    """``bob was away``, ``bob crashed``; empty when nobody was."""
    return state(story) if story.absences else ""


def _cause(story: Story) -> str:
    """The absence during which something was lost: ``bob was away``."""
    users = [flight.receiver for flight in story.flights if flight.fate == "lost"]
    return state(story, set(users)) or state(story)


def state(story: Story, users: set[str] | None = None) -> str:
    """What befell the absent ones (among ``users``): ``bob was away``, ``bob crashed``."""
    absences = [a for a in story.absences if users is None or a.user in users]
    if not absences:
        return ""
    names = list(dict.fromkeys(absence.user for absence in absences))
    whys = {_CAUSES[absence.why] for absence in absences}
    why = whys.pop() if len(whys) == 1 else "away"
    verb = was(len(names))
    words = "crashed" if why == "crashed" else f"{verb} {why}"
    open = all(absence.ended is None for absence in absences)
    if open and why == "away":
        words = "is away" if len(names) == 1 else "are away"
    return f"{named(names)} {words}"


def _faults(story: Story) -> list[str]:
    return list(dict.fromkeys(fault_words(f.fault, f.target) for f in story.faults))


def _fault(story: Story) -> str:
    """``RabbitMQ was killed``, ``2 links were cut``; empty without a fault."""
    names = _faults(story)
    if len(names) > 1 and all(name.endswith("link cut") for name in names):
        return f"{len(names)} links were cut"
    if len(names) != 1:
        return f"there were {len(names)} faults" if names else ""
    head, _, tail = names[0].rpartition(" ")
    return f"{head} was {tail}"

"""What has to happen in a run for it to prove anything, in the judges' words: ``kill
rabbitmq``, ``cut bob-redis``, ``late eva``. Pure: of a scenario, a pattern and the service that
the backend relies on, so that a run that was kept is judged again as it was when it was played.
"""

from __future__ import annotations

from chatlab.backends import INSULTS, PRIVATE, parse_backend
from chatlab.experiments.scenario import Scenario
from chatlab.experiments.steps import Pattern, Step
from chatlab.groups.guarantees import guarantees

_OF_GROUPS = {"RabbitMQ": "rabbitmq", "Redis": "redis", "none": ""}
#: Stands for the service of a backend that has none: what is done to it never happens.
NO_SERVICE = "broker"


def broker_of(pattern: Pattern, backend: str) -> str:
    """The service that a backend of ours relies on: ``rabbitmq``, ``redis``, ``server``; empty
    when there is none.

    Raises:
        InvalidInput: the pattern has no such backend.
    """
    if pattern == "group":
        return _OF_GROUPS[guarantees(backend).broker]
    if pattern == "private":
        return "" if parse_backend(backend, PRIVATE)[0] == "direct" else "server"
    name, _ = parse_backend(backend, INSULTS)
    return "" if name == "memory" else "redis" if name.startswith("redis") else "rabbitmq"


def link_of(pattern: Pattern, broker: str) -> str:
    """The link on which messages travel; empty when there is none."""
    return broker or ("direct" if pattern == "private" else "")


def expected(scenario: Scenario, pattern: Pattern, broker: str) -> tuple[str, ...]:
    """What the scenario does to a backend of that pattern on that service."""
    steps = [step for step in scenario.steps if step.done_on(pattern)]
    done = [
        fault
        for step in steps
        if step.breaks in ("service", "user", "link")
        for fault in _faults_of(step, broker, link_of(pattern, broker))
    ]
    late = _late(steps) if pattern == "group" else []
    return (*done, *(f"late {user}" for user in late))


def _faults_of(step: Step, broker: str, link: str) -> list[str]:
    if step.breaks == "user":
        # A second window is in the journal as a life of its own, not as a fault.
        return [f"{step.do} {user}" for user in step.who if step.do != "second_window"]
    own = broker if step.breaks == "service" else link
    service = own or NO_SERVICE if step.service == "broker" else step.service
    if step.breaks == "service":
        return [f"{step.do} {service}"]
    fault = "freeze" if step.do == "freeze_link" else step.do
    return [f"{fault} {user}-{service}" for user in step.who]


def _late(steps: list[Step]) -> list[str]:
    """Who comes to the group when something has been sent."""
    first = next((n for n, step in enumerate(steps) if step.do == "send"), len(steps))
    early = {user for step in steps[:first] for user in step.who}
    later = [step for step in steps[first:] if step.do in ("join", "subscribe")]
    return [user for step in later for user in step.who if user not in early]

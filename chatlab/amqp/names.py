"""Names on a RabbitMQ that is not ours alone: each begins with the lab's prefix.

Everything above speaks of ``sd`` and ``chatlab/sd/bob``; on the wire they are
``chatlab-<lab>.sd`` and so on. Server-named things, the default exchange and ``amq.*`` keep
their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Of a queue's arguments, those that name something.
_DEAD_EXCHANGE, _DEAD_KEY = "x-dead-letter-exchange", "x-dead-letter-routing-key"


class Names:
    """How names here are names there."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def there(self, name: str) -> str:
        """What ``name`` is called on the broker."""
        if not name or name.startswith("amq."):
            return name
        return self.prefix + name

    def here(self, text: str) -> str:
        """A sentence of the broker's, with names as they are here."""
        return text.replace(f"'{self.prefix}", "'") if self.prefix else text

    def of_call(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments of a channel method, names as they are there."""
        if not self.prefix:
            return arguments
        named: dict[str, Any] = {
            key: self.there(value) if key in ("queue", "exchange") else value
            for key, value in arguments.items()
        }
        if named.get("arguments"):
            named["arguments"] = self._of_queue(named["arguments"])
        return named

    def of_publish(self, exchange: str, key: str, *rest: Any) -> tuple[Any, ...]:
        """The arguments of ``basic.publish``: a key is a queue on the default exchange."""
        return self.there(exchange), key if exchange else self.there(key), *rest

    def _of_queue(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(arguments)
        if _DEAD_EXCHANGE in found:
            exchange = found[_DEAD_EXCHANGE]
            found[_DEAD_EXCHANGE] = self.there(exchange)
            if not exchange and _DEAD_KEY in found:
                found[_DEAD_KEY] = self.there(found[_DEAD_KEY])
        return found

"""What discovery has on RabbitMQ, by name. No group can be called so: see ``RESERVED``.

========================  =========  ====================================================
``chatlab/discovery``     fanout     a question to all who are online
``chatlab/presence/bob``  exclusive  bob's ear for them; there as long as his connection is.
          queue                      Its binding to the exchange says where he is reached
``chatlab/answers/…``     exclusive  where one who asks collects the answers
          queue
========================  =========  ====================================================
"""

from __future__ import annotations

#: Begins the name of every queue and exchange of ours.
OURS = "chatlab/"
EXCHANGE = "chatlab/discovery"
PRESENCE = "chatlab/presence/"
ANSWERS = "chatlab/answers/"
#: Words that a group cannot have as its name: its queues, ``chatlab/<group>/<user>``, would
#: be taken for these or for the insult channel's.
RESERVED = ("presence", "answers", "insults")

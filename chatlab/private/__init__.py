"""Private chats over gRPC: a server with a mailbox per user, and its client.

- ``mailbox``: what a store of mailboxes does, and its limits; ``memory`` and ``redis`` are the
  two stores.
- ``accounts``, ``session``: who exists, and the token that says who is calling.
- ``wire``: limits and conversions of ``protos/chatlab/v1/private_chat.proto``.
- ``channel``: options of both ends, gRPC statuses as errors of chatlab.
- ``security``: which address a server may have, TLS, the lab's secret.
- ``server``: :class:`~chatlab.private.server.ChatServer`, in-process or as a process
  (``python -m chatlab.private.server``).
- ``outbox``, ``screen``: what a client has sent and has no answer for; what it was shown.
- ``connection``, ``client``: :class:`~chatlab.private.client.MailboxClient`, one user's end.
- ``endpoint``, ``line``, ``direct``: a user's own small server, a conversation on it or with
  another's, and :class:`~chatlab.private.direct.DirectClient`; no relay.
- ``as_reported``, ``as_reported_client`` (its connection: ``as_reported_line``): server and
  client of the original report, the baseline of comparisons.
- ``direct``, ``endpoint``, ``line``: chats without a server, of
  ``protos/chatlab/v1/direct_chat.proto``; ``screen``: what each user is shown, once.
- ``clients``: which client belongs to which backend; ``backoff``: how they connect again.

The only importer of ``grpc``.
"""

from __future__ import annotations

from chatlab.settings import default_environ

# Before grpc is imported anywhere: its log lines would land in whatever cell is newest.
default_environ("GRPC_VERBOSITY", "ERROR")

from chatlab.private.client import MailboxClient  # noqa: E402
from chatlab.private.clients import PrivateClient, private_client  # noqa: E402

__all__ = ["MailboxClient", "PrivateClient", "private_client"]

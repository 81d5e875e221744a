"""The lab: users, chats, scenes and services, as a cell uses them.

The only synchronous face of chatlab. ``Lab.start(name)`` gives a lab; its users' verbs are in
``users``, their handles on conversations in ``chats``; the coroutines behind them are in
``seat`` and ``client``.
"""

from chatlab.lab.chats import Chat, GroupChat, InsultChannel, PrivateChat
from chatlab.lab.lab import Lab
from chatlab.lab.scene import Scene
from chatlab.lab.users import User
from chatlab.lab.watching import Watch

__all__ = ["Chat", "GroupChat", "InsultChannel", "Lab", "PrivateChat", "Scene", "User", "Watch"]

"""The terminal client, ``chatlab client``: chats, groups and insults without a notebook.

- ``clean``: text from others, made harmless; ``words``: what the program says;
- ``conversation`` and ``desk``: what the user knows, from the facts of its client, pure;
- ``commands``: what can be chosen and typed, as data; ``views``: the pages;
- ``keyring``: the accounts' secrets on this computer;
- ``session``: the user's client and what goes on in the background;
- ``screen``: what the program needs of a terminal; ``program`` and ``steps``: what it leads
  through;
- ``transcript`` and ``face``: the terminal, by prompt_toolkit, the only place that knows it;
- ``command``: the command itself.
"""

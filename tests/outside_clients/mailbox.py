"""Mailboxes on bare redis-py: a stream for each user, of what it has not acknowledged."""

import redis


class Mailbox:
    broker = "redis"

    def __init__(self, url, name, prefix):
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.prefix = prefix
        self.name = name

    def box(self, name):
        return f"{self.prefix}box:{name}"

    def put(self, to, text):
        self.redis.xadd(self.box(to), {"text": text})

    def pending(self):
        return [(id, entry["text"]) for id, entry in self.redis.xrange(self.box(self.name))]

    def ack(self, id):
        self.redis.xdel(self.box(self.name), id)

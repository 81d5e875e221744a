"""A group on bare pika: a fanout exchange, a durable queue for each member.

What a client has to do by itself: try again when the connection is lost, and drop what it has
been shown already.
"""

import time
import uuid

import pika

EXCHANGE = "group"


class Group:
    def __init__(self, url, name):
        self.url = url
        self.queue = f"{EXCHANGE}.{name}"
        self.channel = None
        self.seen = set()

    def open(self):
        if self.channel is None or not self.channel.is_open:
            self.channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
            self.channel.exchange_declare(EXCHANGE, "fanout", durable=True)
            self.channel.confirm_delivery()
            self.channel.basic_qos(prefetch_count=100)

    def send(self, text):
        self.open()
        properties = pika.BasicProperties(delivery_mode=2, message_id=str(uuid.uuid4()))
        self.channel.basic_publish(EXCHANGE, "", text, properties)  # returns when confirmed

    def subscribe(self):
        self.open()
        arguments = {"x-single-active-consumer": True}  # keeps the order over a reconnect
        self.channel.queue_declare(self.queue, durable=True, arguments=arguments)
        self.channel.queue_bind(self.queue, EXCHANGE)

    def unsubscribe(self):
        self.open()
        self.channel.queue_delete(self.queue)

    def listen(self, handle):
        while True:
            try:
                self.open()
                for method, properties, body in self.channel.consume(self.queue):
                    if properties.message_id not in self.seen:
                        handle(body.decode(), method.redelivered)
                        self.seen.add(properties.message_id)
                    self.channel.basic_ack(method.delivery_tag)
            except Exception:  # pika raises more than its own while a broker goes down
                time.sleep(0.2)

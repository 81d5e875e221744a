"""An insult channel on bare pika: one durable queue, an acknowledgement when the work is done.

What a client has to do by itself: try again when the connection is lost, and drop what it has
been shown already.
"""

import time
import uuid

import pika
from pika.exceptions import AMQPError

QUEUE = "insults"


class Insults:
    def __init__(self, url, name):
        self.url = url
        self.channel = None
        self.seen = set()

    def open(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
        self.channel.queue_declare(QUEUE, durable=True)
        self.channel.basic_qos(prefetch_count=1)
        self.channel.confirm_delivery()

    def send(self, text):
        if self.channel is None or not self.channel.is_open:
            self.open()
        properties = pika.BasicProperties(delivery_mode=2, message_id=str(uuid.uuid4()))
        self.channel.basic_publish("", QUEUE, text, properties)  # returns when it is confirmed

    def listen(self, handle):
        while True:
            try:
                self.open()
                for method, properties, body in self.channel.consume(QUEUE):
                    if properties.message_id not in self.seen:
                        handle(body.decode(), method.redelivered)
                        self.seen.add(properties.message_id)
                    self.channel.basic_ack(method.delivery_tag)
            except AMQPError:
                time.sleep(0.2)

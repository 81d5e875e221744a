"""An insult channel on bare pika: one durable queue, an acknowledgement when the work is done.

What a client has to do by itself: try again when the connection is lost, drop what it has been
shown already, and give back what could not be worked on, but not for ever.
"""

import time
import uuid

import pika

QUEUE = "insults"
FIVE_TIMES = {"x-queue-type": "quorum", "x-delivery-limit": 4}  # the first, and four again


class Insults:
    def __init__(self, url, name):
        self.url = url
        self.channel = None
        self.seen = set()

    def open(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
        self.channel.queue_declare(QUEUE, durable=True, arguments=FIVE_TIMES)
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
                    self.work(handle, method, properties.message_id, body)
            except Exception:  # pika raises more than its own while a broker goes down
                time.sleep(0.2)

    def work(self, handle, method, id, body):
        try:
            if id not in self.seen:
                handle(body.decode(), method.redelivered)
                self.seen.add(id)
            self.channel.basic_ack(method.delivery_tag)
        except RuntimeError:  # the work failed
            self.channel.basic_reject(method.delivery_tag)

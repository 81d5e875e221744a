"""Broken: it acknowledges an insult before the work is done. A member that is killed takes
along what it had in its hands."""

import pika

QUEUE = "insults"


class AckFirst:
    def __init__(self, url, name):
        self.channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
        self.channel.queue_declare(QUEUE, durable=True)
        self.channel.confirm_delivery()

    def send(self, text):
        self.channel.basic_publish("", QUEUE, text, pika.BasicProperties(delivery_mode=2))

    def listen(self, handle):
        for _, _, body in self.channel.consume(QUEUE, auto_ack=True):
            handle(body.decode())

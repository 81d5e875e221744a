"""Broken: its queue belongs to the connection. When that is lost, a new queue begins empty."""

import time

import pika

EXCHANGE = "group"


class Forgetful:
    def __init__(self, url, name):
        self.url = url
        self.open()

    def open(self):
        self.channel = pika.BlockingConnection(pika.URLParameters(self.url)).channel()
        self.channel.exchange_declare(EXCHANGE, "fanout", durable=True)
        self.channel.confirm_delivery()

    def send(self, text):
        self.channel.basic_publish(EXCHANGE, "", text)

    def subscribe(self):
        self.queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queue, EXCHANGE)

    def unsubscribe(self):
        pass  # it goes with the connection

    def listen(self, handle):
        while True:
            try:
                for method, _, body in self.channel.consume(self.queue):
                    handle(body.decode(), method.redelivered)
                    self.channel.basic_ack(method.delivery_tag)
            except Exception:
                self.again()

    def again(self):
        try:
            time.sleep(0.2)
            self.open()
            self.subscribe()
        except Exception:
            pass

"""A group for each user, and a text that the emitter wrote. The consumer is a synchronous one."""

from asgiref.sync import async_to_sync
from channels.generic.websocket import WebsocketConsumer


class InboxConsumer(WebsocketConsumer):
    def connect(self):
        if self.scope["user"].is_anonymous:
            self.close()
            return
        self.name = "inbox_%d" % self.scope["user"].id
        async_to_sync(self.channel_layer.group_add)(self.name, self.channel_name)
        self.accept()

    def inbox_message(self, event):
        self.send(text_data=event["text"])

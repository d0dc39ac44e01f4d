"""A Channels site that serves group messages the way AWX's event consumer does: what Daphne runs in the benchmark."""

import os

import django
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.urls import path

settings.configure(
    SECRET_KEY="bench",
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {
                "hosts": [os.environ["BENCH_REDIS"]],
                "capacity": int(os.environ["BENCH_CAPACITY"]),
                "group_expiry": int(os.environ["BENCH_GROUP_EXPIRY"]),
            },
        }
    },
)
django.setup()


def cookie(scope, name):
    for key, value in scope["headers"]:
        if key == b"cookie":
            for part in value.decode("latin-1").split(";"):
                left, _, right = part.strip().partition("=")
                if left == name:
                    return right
    return None


class Events(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.joined = set()
        await self.accept()
        await self.send_json({"accept": True, "user": 1})

    async def disconnect(self, code):
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def receive_json(self, content):
        if content.get("xrftoken") != cookie(self.scope, "csrftoken"):
            await self.send_json({"error": "access denied to channel"})
            return
        wanted = {f"{name}-{item}" for name, items in content["groups"].items() for item in items}
        left, new = self.joined - wanted, wanted - self.joined
        for group in left:
            await self.channel_layer.group_discard(group, self.channel_name)
        for group in new:
            await self.channel_layer.group_add(group, self.channel_name)
        self.joined = wanted
        await self.send_json({"groups_current": list(wanted), "groups_left": list(left), "groups_joined": list(new)})

    async def internal_message(self, event):
        await self.send(event["text"])


application = ProtocolTypeRouter({"websocket": URLRouter([path("websocket/", Events.as_asgi())])})

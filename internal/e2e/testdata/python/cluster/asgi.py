"""The serving side of a Python node, to be run by Daphne.

CLUSTER_GENERATION is "broadcast" (AWX 9 to 21) or "relay" (22 and later), CLUSTER_REDIS the
node's own Redis, CLUSTER_SECRET the secret.
"""

import os

from django.conf import settings

settings.configure(
    SECRET_KEY="test",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [os.environ["CLUSTER_REDIS"]], "capacity": 10000, "group_expiry": 157784760},
        }
    },
)

import django  # noqa: E402

django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import re_path  # noqa: E402
from redis import asyncio as redis  # noqa: E402

from .secret import sound  # noqa: E402

ALL = "broadcast-group_send"
urlpatterns = []


class Peer(AsyncJsonWebsocketConsumer):
    """A node that has dialled this one."""

    async def connect(self):
        given = dict(self.scope["headers"]).get(b"secret", b"").decode()
        if not sound(given):
            await self.close()
            return
        await self.accept()
        await self.channel_layer.group_add(ALL, self.channel_name)

    async def disconnect(self, code):
        await self.channel_layer.group_discard(ALL, self.channel_name)

    async def internal_message(self, message):
        await self.send(message["text"])


class Broadcast(Peer):
    """Sends every event, reads nothing."""


class Relay(Peer):
    """Takes events, and passes on what clients of this node want."""

    async def receive_json(self, frame):
        if frame["group"] == "metrics":
            import json

            figures = json.loads(frame["message"]["text"])
            client = redis.Redis.from_url(os.environ["CLUSTER_REDIS"])
            await client.set(
                "awx_metrics-" + figures["metrics_namespace"] + "_instance_" + figures["instance"], figures["metrics"]
            )
            await client.close()
            return
        await self.channel_layer.group_send(frame["group"], frame["message"])

    async def consumer_subscribe(self, message):
        await self.send_json(message)

    async def consumer_unsubscribe(self, message):
        await self.send_json(message)


endpoint = {"broadcast": Broadcast, "relay": Relay}[os.environ["CLUSTER_GENERATION"]]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([re_path(rf"^websocket/{os.environ['CLUSTER_GENERATION']}/$", endpoint.as_asgi())]),
    }
)

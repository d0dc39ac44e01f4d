"""A Channels consumer that echoes, for the mode echo."""

from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="bench", INSTALLED_APPS=["channels"])

import django  # noqa: E402

django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402


class Echo(AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


application = ProtocolTypeRouter({"websocket": URLRouter([path("ws/", Echo.as_asgi())])})

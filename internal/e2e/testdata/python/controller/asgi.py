"""The ASGI application that Daphne serves."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controller.settings")
http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.sessions import SessionMiddlewareStack  # noqa: E402
from django.urls import re_path  # noqa: E402

from .consumer import EventConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http,
        "websocket": SessionMiddlewareStack(
            URLRouter(
                [
                    re_path(r"^websocket/?$", EventConsumer.as_asgi()),
                    re_path(r"^api/websocket/?$", EventConsumer.as_asgi()),
                    re_path(r"^api/[\w-]+/v2/websocket/?$", EventConsumer.as_asgi()),
                ]
            )
        ),
    }
)

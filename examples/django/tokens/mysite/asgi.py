"""The site with its websockets, as Daphne serves it."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402

from tickets.consumers import TicketConsumer  # noqa: E402
from tickets.tokens import TokenMiddleware  # noqa: E402

websockets = TokenMiddleware(URLRouter([path("ws/tickets/", TicketConsumer.as_asgi())]))
application = ProtocolTypeRouter({"http": http, "websocket": AllowedHostsOriginValidator(websockets)})

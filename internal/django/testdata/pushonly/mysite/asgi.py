"""The consumers, as Daphne serves them."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
http = get_asgi_application()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from consumers import (  # noqa: E402
    badge, camera, cleanup, dashboard, feed, inbox, kinds, order, price, room, staff, task, ticker,
)

websockets = URLRouter(
    [
        path("ws/badge/", badge.BadgeConsumer.as_asgi()),
        path("ws/camera/<slug:camera>/", camera.CameraConsumer.as_asgi()),
        path("ws/cleanup/<slug:document>/", cleanup.CleanupConsumer.as_asgi()),
        path("ws/dashboard/<slug:site>/", dashboard.DashboardConsumer.as_asgi()),
        path("ws/feed/", feed.FeedConsumer.as_asgi()),
        path("ws/inbox/", inbox.InboxConsumer.as_asgi()),
        path("ws/kinds/", kinds.KindsConsumer.as_asgi()),
        re_path(r"^ws/order/(?P<order>\d+)/?$", order.OrderConsumer.as_asgi()),
        path("ws/price/<slug:symbol>/", price.PriceConsumer.as_asgi()),
        path("ws/room/", room.RoomConsumer.as_asgi()),
        path("ws/staff/", staff.StaffConsumer.as_asgi()),
        path("ws/task/<slug:task>/", task.TaskConsumer.as_asgi()),
        path("ws/ticker/<slug:market>/", ticker.TickerConsumer.as_asgi()),
    ]
)
application = ProtocolTypeRouter({"http": http, "websocket": AuthMiddlewareStack(websockets)})

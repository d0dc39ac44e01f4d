"""The same echo as a view of django-grip, under plain WSGI, for the mode echo."""

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"], SECRET_KEY="bench", ROOT_URLCONF=__name__, MIDDLEWARE=["django_grip.GripMiddleware"],
)

import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.urls import path  # noqa: E402
from django_grip import websocket_only  # noqa: E402


@websocket_only
def echo(request):
    ws = request.wscontext
    if ws.is_opening():
        ws.accept()
    while ws.can_recv():
        message = ws.recv()
        if message is None:
            ws.close(ws.close_code)
            break
        ws.send(message)


urlpatterns = [path("ws/", echo)]
application = get_wsgi_application()

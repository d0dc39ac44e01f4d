"""A Django site whose WebSockets are django-grip's, under plain WSGI: no ASGI, no Channels, no socket."""

import os

from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    GRIP_URL=os.environ["GRIP_URL"],
    GRIP_VERIFY_KEY=os.environ["GRIP_VERIFY_KEY"],
    MIDDLEWARE=["django_grip.GripMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="test",
)

import django  # noqa: E402

django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, HttpResponseForbidden  # noqa: E402
from django.urls import path  # noqa: E402
from django_grip import publish, websocket_only  # noqa: E402
from gripcontrol import HttpStreamFormat, WebSocketMessageFormat  # noqa: E402


def answer(ws, request, message):
    """Answers a message of the client by the words in it."""
    if message == "signed":
        ws.send(str(request.grip.signed))
    elif message == "meta":
        ws.send(ws.meta.get("user", "none"))
    elif message == "forget":
        del ws.meta["user"]
        ws.send("forgotten")
    elif message == "leave":
        ws.unsubscribe("room")
        ws.send("left")
    elif message == "detach":
        ws.detach()
    elif message == "binary":
        ws.send_binary(b"\x00\xff")
    elif message == "close":
        ws.close(4002)
    elif message == "fail":
        raise ValueError("as the client wishes")
    elif message == "publish":
        formats = [WebSocketMessageFormat("to the room"), HttpStreamFormat("to the room\n")]
        publish("room", formats, id="1", blocking=True)
        publish("room", WebSocketMessageFormat(b"\x01\x02", binary=True), blocking=True)
    elif message == "end":
        publish("room", WebSocketMessageFormat(action="close", code=4003), blocking=True)
    else:
        ws.send(message)


@websocket_only
def socket(request):
    ws = request.wscontext
    if ws.is_opening():
        if "denied" in request.GET:
            return HttpResponseForbidden("denied\n")
        ws.accept()
        ws.meta["user"] = request.GET.get("user", "")
        ws.subscribe("room")
        ws.send("welcome")
    while ws.can_recv():
        message = ws.recv()
        if message is None:
            ws.close(ws.close_code)
            break
        answer(ws, request, message)


def page(request):
    return HttpResponse("page\n")


urlpatterns = [path("ws/", socket), path("", page)]
application = get_wsgi_application()

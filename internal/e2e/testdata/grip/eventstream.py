"""A site whose event streams are those of django-eventstream, under plain WSGI: a page sends events, another is a stream
of them, and the library keeps them in a database. The environment has EVENTSTREAM_DB, a file of SQLite, GRIP_VERIFY_KEY,
and GRIP_URL, the endpoint at which the site publishes."""

import json
import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret of more than 32 characters",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["EVENTSTREAM_DB"],
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_eventstream"],
    MIDDLEWARE=["django_grip.GripMiddleware"],
    GRIP_URL=os.environ["GRIP_URL"],
    GRIP_VERIFY_KEY=os.environ["GRIP_VERIFY_KEY"],
    EVENTSTREAM_STORAGE_CLASS="django_eventstream.storage.DjangoModelStorage",
    EVENTSTREAM_CHANNELMANAGER_CLASS="eventstream.Channels",
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import send_event  # noqa: E402
from django_eventstream.channelmanager import DefaultChannelManager  # noqa: E402
from django_eventstream.utils import get_storage  # noqa: E402
from django_grip import set_hold_longpoll, set_hold_stream, publish  # noqa: E402
from gripcontrol import HttpResponseFormat, HttpStreamFormat  # noqa: E402


class Channels(DefaultChannelManager):
    """Channels named "plain…" have no history."""

    def is_channel_reliable(self, channel):
        return not channel.startswith("plain")

    def can_read_channel(self, user, channel):
        return channel != "secret"


def send(request):
    """Sends an event: ?channel, ?data and, unless everybody shall get it, ?skip."""
    query = request.GET
    send_event(
        query["channel"], "message", {"text": query["data"]}, skip_user_ids=query.getlist("skip"), async_publish=False
    )
    return HttpResponse("sent")


def lose(request):
    """Stores an event, and loses its publication."""
    get_storage().append_event(request.GET["channel"], "message", json.dumps({"text": request.GET["data"]}))
    return HttpResponse("lost")


def lines(request):
    """A stream of plain lines."""
    response = HttpResponse("[begin]\n", content_type="text/plain")
    set_hold_stream(request, "lines", keep_alive_data="\n", keep_alive_timeout=20)
    return response


def poll(request):
    """A long poll."""
    response = HttpResponse("[timeout]\n", content_type="text/plain")
    response["X-Site"] = "poll"
    set_hold_longpoll(request, "poll", timeout=int(request.GET.get("timeout", 55)))
    return response


def say(request):
    text = request.GET["data"]
    publish("lines", HttpStreamFormat(text + "\n"), blocking=True)
    publish("poll", HttpResponseFormat(body=text + "\n"), blocking=True)
    return HttpResponse("said")


def hang_up(request):
    publish("lines", HttpStreamFormat(close=True), blocking=True)
    return HttpResponse("hung up")


urlpatterns = [
    path("events/", include("django_eventstream.urls")),
    path("events/room/<room>/", include("django_eventstream.urls"), {"format-channels": ["{room}"]}),
    path("events/lines/", lines),
    path("events/poll/", poll),
    path("send/", send),
    path("lose/", lose),
    path("say/", say),
    path("hang_up/", hang_up),
    path("", lambda request: HttpResponse("ready")),
]

application = get_wsgi_application()

if __name__ == "__main__":
    call_command("migrate", verbosity=0)

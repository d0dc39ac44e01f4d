"""What a person sees: a form to log in with, a page that shows events, a button."""

import os

import redis
from controller import people
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.middleware.csrf import get_token
from django.utils.html import escape
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

FORM = """<!DOCTYPE html><title>Log in</title><link rel="icon" href="data:,">
<form method="post"><input type="hidden" name="csrfmiddlewaretoken" value="%s">
<input id="username" name="username"><input id="password" name="password" type="password">
<button id="submit">Log in</button> %s</form>"""

PAGE = """<!DOCTYPE html><title>Jobs</title><link rel="icon" href="data:,">
<p>Logged in as <b id="user">%s</b></p><ol id="events"></ol>
<script src="/static/page.js"></script>"""


def login(request):
    """Django's CSRF middleware guards this form: it compares the scheme and host that it knows with the browser's."""
    failure = ""
    if request.method == "POST":
        person = people.by_password(request.POST.get("username"), request.POST.get("password"))
        if person is not None:
            request.session.cycle_key()
            request.session[people.SESSION_KEY] = person.id
            return HttpResponseRedirect("/")
        failure = "unknown name or password"
    return HttpResponse(FORM % (get_token(request), failure))


@require_GET
def page(request):
    person = people.by_session(request.session)
    if person is None:
        return HttpResponseRedirect("/accounts/login/")
    get_token(request)
    return HttpResponse(PAGE % escape(person.username))


@require_POST
def relaunch(request):
    if people.by_session(request.session) is None:
        return HttpResponse(status=401)
    return HttpResponse(status=204)


@require_GET
def mirror(request):
    """What the application is told of a request."""
    return JsonResponse(
        {
            "scheme": request.scheme,
            "host": request.get_host(),
            "path": request.get_full_path(),
            "forwarded_for": request.META.get("HTTP_X_FORWARDED_FOR", ""),
            "forwarded_port": request.META.get("HTTP_X_FORWARDED_PORT", ""),
            "remote_addr": request.META.get("REMOTE_ADDR", ""),
            "server_port": request.META.get("SERVER_PORT", ""),
            "script_name": request.META.get("SCRIPT_NAME", ""),
            "protocol": request.META.get("SERVER_PROTOCOL", ""),
            "request_uri": request.META.get("REQUEST_URI", ""),
        }
    )


@csrf_exempt
@require_POST
def upload(request):
    return JsonResponse({"bytes": len(request.body)})


@require_GET
def job_events(request, job):
    """The numbers of a job's events above another one, from the database: how AWX's pages fetch what they missed."""
    if people.by_session(request.session) is None:
        return HttpResponse(status=401)
    above = int(request.GET.get("counter__gt", -1))
    stored = redis.from_url(os.environ["CONTROLLER_REDIS"]).lrange(f"job_events:job_events-{job}", 0, -1)
    return JsonResponse({"results": [n for n in map(int, stored) if n > above]})

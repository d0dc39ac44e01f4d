"""The HTTP side: log in and out, identity, objects, and what was asked for so far."""

from django.http import HttpResponse, JsonResponse
from django.middleware.csrf import get_token
from django.views.decorators.csrf import csrf_exempt, ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_POST

from . import hits, people


def requester(request):
    """The person behind the session cookie or the Basic Authorization of a request."""
    header = request.META.get("HTTP_AUTHORIZATION")
    if header:
        return people.by_authorization(header)
    return people.by_session(request.session)


def unauthenticated():
    response = JsonResponse({"detail": "Log in first."}, status=401)
    response["WWW-Authenticate"] = 'Basic realm="api"'
    return response


@csrf_exempt
@require_POST
def login(request):
    person = people.by_password(request.POST.get("username"), request.POST.get("password"))
    if person is None:
        return HttpResponse("unknown name or password\n", status=401)
    request.session.cycle_key()
    request.session[people.SESSION_KEY] = person.id
    get_token(request)  # sets the CSRF cookie
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def logout(request):
    request.session.flush()
    return HttpResponse(status=204)


@ensure_csrf_cookie
@require_GET
def index(request):
    """A page for everyone: it gives an anonymous browser its CSRF cookie."""
    return HttpResponse("controller\n", content_type="text/plain")


@require_GET
def me(request):
    person = requester(request)
    if person is None:
        return unauthenticated()
    row = {
        "id": person.id,
        "type": "user",
        "username": person.username,
        "is_superuser": person.is_superuser,
    }
    return JsonResponse({"count": 1, "next": None, "previous": None, "results": [row]})


@require_GET
def thing(request, kind, number):
    person = requester(request)
    if person is None:
        return unauthenticated()
    if not people.exists(kind, number):
        return JsonResponse({"detail": "There is no such thing."}, status=404)
    if not people.may_see(person, kind, number):
        return JsonResponse({"detail": "Not yours to see."}, status=403)
    return JsonResponse({"id": number, "type": kind})


@require_GET
def stats(request):
    return JsonResponse(hits.snapshot())

import json

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth import authenticate
from django.http import HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from . import tokens


def page(request):
    return render(request, "tickets/page.html")


@require_POST
def token(request):
    login = json.loads(request.body)
    user = authenticate(username=login["username"], password=login["password"])
    if user is None:
        return HttpResponse(status=401)
    return JsonResponse({"token": tokens.create(user)})


@require_POST
def update(request, ticket):
    """Announces a ticket's new state to a team, or to the user to whom it is assigned now."""
    claims = tokens.claims(request.headers.get("Authorization", "").removeprefix("Bearer "))
    if claims is None:
        return HttpResponse(status=401)
    change = json.loads(request.body)
    send = async_to_sync(get_channel_layer().group_send)
    if "assign" in change:
        send(f"user_{change['assign']}", {"type": "ticket.assigned", "ticket": ticket})
    else:
        message = {"type": "ticket.updated", "ticket": ticket, "state": change["state"], "by": claims["name"]}
        send(f"team_{change['team']}", message)
    return HttpResponse(status=204)

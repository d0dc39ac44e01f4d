from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods


def index(request):
    return render(request, "chat/index.html")


@require_http_methods(["GET", "POST"])
def room(request, room_name):
    if request.method == "POST":
        # Anything of the site may speak in a room, not only browsers.
        message = {"type": "chat.message", "message": request.POST["message"]}
        async_to_sync(get_channel_layer().group_send)(f"chat_{room_name}", message)
        return HttpResponse(status=204)
    return render(request, "chat/room.html", {"room_name": room_name})

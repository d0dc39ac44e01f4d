from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST

from .models import Notification, unread
from .signals import send_read


@login_required
def page(request):
    return render(request, "notifications/page.html", {"notifications": request.user.notifications.order_by("-pk")})


@login_required
@require_POST
def notify(request):
    user = get_object_or_404(get_user_model(), username=request.POST["user"])
    Notification.objects.create(user=user, text=request.POST["text"])
    return HttpResponse(status=204)


@login_required
@require_POST
def read(request):
    request.user.notifications.update(read=True)
    send_read(request.user)
    return HttpResponse(status=204)


def relay_user(request):
    """Who the browser is. The relay asks with the browser's cookies, when a page connects and once in a while."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    return JsonResponse({"user": request.user.pk})


@login_required
def relay_unread(request):
    """The first frame of a page, which the relay fetches with the browser's cookies."""
    return JsonResponse({"unread": unread(request.user)})

from django.contrib.auth import authenticate, login
from django.http import HttpResponse, JsonResponse
from django.urls import path


def log_in(request):
    if request.method == "POST":
        user = authenticate(username=request.POST["username"], password=request.POST["password"])
        login(request, user)
    return HttpResponse()


def user(request, staff=False):
    """Who the browser is, and which groups it may name, for the relay. The route of the staff asks for staff/."""
    if not request.user.is_authenticated:
        return HttpResponse(status=401)
    if staff and not request.user.is_staff:
        return HttpResponse(status=403)
    return JsonResponse({"user": request.user.pk, "groups": ["site_*"]})


def badge(request):
    """The first frame of badge."""
    return JsonResponse({"unread": 3, "for": request.user.username})


urlpatterns = [path("login/", log_in), path("user/", user), path("staff/", user, {"staff": True}), path("badge/", badge)]

from controller.urls import urlpatterns as controller
from django.urls import path

from . import views

urlpatterns = [
    path("", views.page),
    path("accounts/login/", views.login),
    path("relaunch/", views.relaunch),
    path("mirror/", views.mirror),
    path("upload/", views.upload),
    path("api/v2/jobs/<int:job>/job_events/", views.job_events),
] + controller[1:]

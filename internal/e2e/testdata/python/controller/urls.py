from django.urls import path

from . import people, views

urlpatterns = [
    path("", views.index),
    path("login/", views.login),
    path("logout/", views.logout),
    path("stats/", views.stats),
    path("api/v2/me/", views.me),
] + [
    path(f"api/v2/{kind}/<int:number>/", views.thing, {"kind": kind})
    for kind in people.OBJECTS
]

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path

from notifications import views

urlpatterns = [
    path("", views.page),
    path("login/", LoginView.as_view(template_name="notifications/login.html")),
    path("logout/", LogoutView.as_view()),
    path("notify/", views.notify),
    path("read/", views.read),
    # For the relay only.
    path("relay/user/", views.relay_user),
    path("relay/unread/", views.relay_unread),
]

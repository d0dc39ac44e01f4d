from django.urls import path

from tickets import views

urlpatterns = [
    path("", views.page),
    path("token/", views.token),
    path("tickets/<int:ticket>/", views.update),
]

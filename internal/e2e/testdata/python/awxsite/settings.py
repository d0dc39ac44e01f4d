"""A site in AWX's shape: the controller's API and websockets, and a page to look at behind a login.

uWSGI serves awxsite.wsgi, Daphne controller.asgi, nginx (nginx.conf.in) or Caddy stands before both.
"""

from controller.settings import *  # noqa: F403

ROOT_URLCONF = "awxsite.urls"
USE_X_FORWARDED_PORT = False

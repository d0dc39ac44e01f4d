"""A WSGI application that shows what a uWSGI worker is told, and misbehaves on request."""

import hashlib
import json
import os
import signal
import time


def application(environ, start_response):
    path = environ["PATH_INFO"]
    for prefix, handler in HANDLERS.items():
        if path.startswith(prefix):
            return handler(environ, start_response)
    return reflect(environ, start_response)


def answer(start_response, body, status="200 OK", headers=()):
    start_response(status, [("Content-Length", str(len(body))), *headers])
    return [body]


def reflect(environ, start_response):
    """All of the environment that is text, with length and digest of the body."""
    body = environ["wsgi.input"].read()
    shown = {key: value for key, value in environ.items() if isinstance(value, str)}
    shown["body"] = [len(body), hashlib.sha256(body).hexdigest()]
    return answer(start_response, json.dumps(shown).encode(), headers=[("Content-Type", "application/json")])


def count(environ):
    """Notes that a request was executed: a line in a file, which survives the worker."""
    with open(os.environ["UWSGI_APP_COUNT"], "a") as f:
        f.write(environ["PATH_INFO"] + "?" + environ["QUERY_STRING"] + "\n")


def post(environ, start_response):
    return answer(start_response, b"%d\n" % len(environ["wsgi.input"].read()))


def large(environ, start_response):
    size = int(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Length", str(size))])
    block = bytes(range(256)) * 256
    return (block[: min(len(block), size - at)] for at in range(0, size, len(block)))


def die(environ, start_response):
    """Ends the worker in mid-request: before the answer, or within it."""
    count(environ)
    if environ["QUERY_STRING"] == "after":
        start_response("200 OK", [("Content-Length", "100000")])
        yield b"x" * 1000
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def lie(environ, start_response):
    """Announces another length than it sends."""
    announced, sent = environ["QUERY_STRING"].split(",")
    start_response("200 OK", [("Content-Length", announced)] if announced else [])
    return [b"x" * int(sent)]


def unread(environ, start_response):
    """Answers without reading the body."""
    return answer(start_response, b"unread\n")


def hang(environ, start_response):
    """Sends until the client has gone, and notes that."""
    start_response("200 OK", [])
    try:
        while True:
            yield b"x" * 1000
            time.sleep(0.01)
    finally:
        count(environ)


def silent(environ, start_response):
    time.sleep(float(environ["QUERY_STRING"]))
    return answer(start_response, b"late\n")


def status(environ, start_response):
    return answer(start_response, b"", environ["QUERY_STRING"] + " Status")


HANDLERS = {
    "/post": post,
    "/large": large,
    "/die": die,
    "/lie": lie,
    "/unread": unread,
    "/hang": hang,
    "/silent": silent,
    "/status": status,
}

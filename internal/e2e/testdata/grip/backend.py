"""A WSGI site that answers WebSocket-over-HTTP with the standard library alone. It records every message."""

import os
import signal
import time

LOG = os.environ["GRIP_LOG"]
TYPE = "application/websocket-events"


def record(text):
    with open(LOG, "a") as f:
        f.write(text + "\n")


def events(body):
    while body:
        line, body = body.split(b"\r\n", 1)
        kind, _, size = line.partition(b" ")
        content = b""
        if size:
            n = int(size, 16)
            content, body = body[:n], body[n + 2:]
        yield kind.decode(), content.decode(errors="replace")


def application(env, start):
    if env.get("CONTENT_TYPE") != TYPE:
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"page\n"]
    body = env["wsgi.input"].read(int(env.get("CONTENT_LENGTH") or 0))
    mark = LOG + "-" + env["HTTP_CONNECTION_ID"]
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        record("overlap " + env["QUERY_STRING"])
    try:
        return answer(env, start, body)
    finally:
        os.unlink(mark)


def answer(env, start, body):
    headers, out, status = [("Content-Type", TYPE)], b"", "200 OK"
    for kind, content in events(body):
        record(env["QUERY_STRING"] + " " + kind + " " + content)
        if kind == "OPEN":
            headers.append(("Sec-WebSocket-Extensions", 'grip; message-prefix=""'))
            out += b"OPEN\r\n"
        elif kind == "CLOSE":
            out += b"CLOSE\r\n"
        elif kind == "TEXT":
            word, _, value = content.partition(" ")
            if word == "sleep":
                time.sleep(float(value))
            elif word == "fail":
                status = "500 Internal Server Error"
            elif word == "die":
                os.unlink(LOG + "-" + env["HTTP_CONNECTION_ID"])
                os.kill(os.getpid(), signal.SIGKILL)
            elif word == "subscribe":
                control = b'c:{"type": "subscribe", "channel": "%s"}' % value.encode()
                out += b"TEXT %x\r\n%s\r\n" % (len(control), control)
            text = content.encode()
            out += b"<html>" if word == "nonsense" else b"TEXT %x\r\n%s\r\n" % (len(text), text)
    start(status, headers)
    return [out]

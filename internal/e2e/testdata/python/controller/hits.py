"""Counts requests to the API by the kind of thing asked for."""

import collections
import threading

_lock = threading.Lock()
_hits = collections.Counter()


def count_hits(get_response):
    def middleware(request):
        parts = request.path.strip("/").split("/")
        if parts[:2] == ["api", "v2"] and len(parts) > 2:
            with _lock:
                _hits[parts[2]] += 1
        return get_response(request)

    return middleware


def snapshot():
    with _lock:
        return dict(_hits)

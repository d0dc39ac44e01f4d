/* An edge function: rooms in which all clients get what one of them sends, and a counter of visits. */
#include "edgerelay.h"

EV_MANIFEST({"name": "{{name}}", "version": "0.1.0", "grants": ["shared"]})

EV_ON_CONNECT() {
  const char *room = ev_cat("room-", ev_param("room"));
  ev_set_attachment(room);
  ev_shared_add(ev_cat("visits:", room), 1, 0, ev_then("visited", room));
  return ev_join(room);
}

EV_ON_MESSAGE(m) { return ev_publish_n(ev_attachment(), m->data, m->len); }

static ev_result visited(const ev_response *r) {
  if (ev_error(r)) return ev_send(ev_cat("the counter is ", ev_error(r)));
  return ev_send(ev_cat("visit ", r->body, " of ", r->context));
}
EV_RESULTS({"visited", visited})

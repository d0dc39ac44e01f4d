/* Marks events with the status failed and drops all other events with a status. */
#include "edgerelay.h"

EV_MANIFEST({"name": "{{name}}", "version": "0.1.0", "grants": []})

EV_ON_EVENT(e) {
  (void)e;
  if (ev_is("status", "failed")) {
    ev_set("seen", "true");
    return ev_edited();
  }
  return ev_has("status") ? EV_DROP : EV_PASS;
}

/* Of all events that have a status it lets failures through, and marks them. */
#include "edgerelay.h"

static char out[EV_MAX_EVENT + 64];

EV_ON_EVENT(e) {
  static const char mark[] = "\"seen\":true";
  if (ev_is("status", "failed")) return ev_insert(e, mark, sizeof mark - 1, out, sizeof out);
  return ev_has("status") ? EV_DROP : EV_PASS;
}

/* Of all events that have a status it lets failures through, and marks them. */
#include "edgerelay.h"

EV_ON_EVENT(e) {
  static const char mark[] = "\"seen\":true";
  if (ev_is("status", "failed")) return ev_add(e, mark, sizeof mark - 1);
  return ev_has("status") ? EV_DROP : EV_PASS;
}

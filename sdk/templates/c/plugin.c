/* Marks events with the status failed and drops all other events with a status. */
#include "edgerelay.h"

EV_ON_EVENT(e) {
  static const char mark[] = "\"seen\":true";
  if (ev_is("status", "failed")) return ev_add(e, mark, sizeof mark - 1);
  return ev_has("status") ? EV_DROP : EV_PASS;
}

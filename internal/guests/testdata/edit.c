/* The benchmark's plugin for edits, see edit-go. */
#include "../../../sdk/c/edgerelay.h"

EV_ON_EVENT(e) {
  ev_set_string("status", "canceled");
  if (e->group_len == 5) {
    ev_remove("uuid");
    ev_rename("event", "kind");
  }
  return ev_edited();
}

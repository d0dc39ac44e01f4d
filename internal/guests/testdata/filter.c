/* The benchmark's plugin: what passes has failed. */
#include "../../../sdk/c/edgerelay.h"

EV_ON_EVENT(e) {
  (void)e;
  return ev_is("status", "failed") ? EV_PASS : EV_DROP;
}

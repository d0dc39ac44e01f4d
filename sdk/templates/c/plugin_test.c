/* Unit tests: edgerelay_test.h takes the relay's place. `sh test.sh` builds and runs them. */
#include "edgerelay_test.h"

EV_TEST(failures_are_marked) {
  EV_REPLACED("{\"status\":\"failed\",\"seen\":true}", ev_test_event("jobs-status_changed", "{\"status\":\"failed\"}"));
}

EV_TEST(other_statuses_are_dropped) {
  EV_EXPECT("drop", ev_test_event("jobs-status_changed", "{\"status\":\"running\"}"));
}

EV_TEST(golden_samples) { ev_test_samples("events.ndjson"); }

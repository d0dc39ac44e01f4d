/* Unit tests: edgerelay_test.h takes the relay's place. `sh test.sh` builds and runs them. */
#include "edgerelay_test.h"

EV_TEST(a_room) {
  ev_relay.join = ev_relay.publish = "room-*";
  ev_test_client *alice = ev_test_connect("{\"params\":{\"room\":\"7\"}}");
  ev_test_client *bob = ev_test_connect("{\"params\":{\"room\":\"7\"}}");
  EV_CHECK(ev_test_text(alice, "hello"));
  EV_TEXT("visit 2 of room-7", ev_test_received(bob));
  EV_TEXT("hello", ev_test_received(bob));
}

/* Built with: cc -DEDGERELAY_TEST -g -fsanitize=address,undefined plugin.c plugin_test.c */
#include "../../../sdk/c/edgerelay_test.h"

static const ev_outcome *event(const char *payload) { return ev_test_event("job_events-42", payload); }

EV_TEST(values_of_secret_names_are_masked) {
  EV_REPLACED("{\"a\":1,\"db_password\":\"********\"}", event("{\"a\":1,\"db_password\":\"hunter2\"}"));
  EV_REPLACED("{\"secrets\":[\"********\",{\"id\":\"********\"}]}", event("{\"secrets\":[1,{\"id\":\"x\"}]}"));
}

EV_TEST(secrets_in_output_are_masked) {
  EV_REPLACED("{\"stdout\":\"token=******** next\"}", event("{\"stdout\":\"token=abc next\"}"));
  EV_REPLACED("{\"stdout\":\"https://u:********@h/\"}", event("{\"stdout\":\"https://u:p@h/\"}"));
}

EV_TEST(the_rest_stays_as_it_is) {
  EV_EXPECT("pass", event("{ \"x\": NaN, \"stdout\": \"nothing to hide\" }"));
  EV_EXPECT("pass", event("no JSON"));
  EV_EXPECT("pass", event(""));
  EV_REPLACED("{ \"x\": NaN, \"token\": \"********\" }\n", event("{ \"x\": NaN, \"token\": \"abc\" }\n"));
}

EV_TEST(the_configuration_names_words_and_mask) {
  EV_CHECK(ev_test_start("{\"words\":[\"pin\"],\"mask\":\"-\"}") == 0);
  EV_REPLACED("{\"PIN\":\"-\",\"password\":\"x\"}", event("{\"PIN\":\"1234\",\"password\":\"x\"}"));
}

EV_TEST(an_empty_word_is_refused) {
  EV_CHECK(ev_test_start("{\"words\":[\"\"]}") != 0);
  EV_TEXT("config: a word is empty, or there are too many", ev_test_log(0));
}

/* Whatever the events are: with sanitizers, a read or write outside of a buffer ends the test. */
EV_TEST(random_events) {
  static const char *const parts[] = {"password", "token", "-----begin ", "://", "@", "=", ":", "\"", "'", "\\", "{",
      "[", "}", "]", ",", " ", "1"};
  uint32_t state = 1;
  for (int round = 0; round < 20000; round++) {
    char payload[512] = "";
    for (int left = 30; left; left--) {
      state = state * 1664525 + 1013904223;
      strcat(payload, parts[(state >> 16) % (sizeof parts / sizeof *parts)]);
    }
    EV_CHECK(strcmp(event(payload)->verdict, "error"));
  }
}

EV_TEST(golden_samples) { ev_test_samples("events.ndjson"); }

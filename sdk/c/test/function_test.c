/* Conversations with a function, through the header's test host.
 *
 *     cc -DEDGERELAY_TEST -g -fsanitize=address,undefined sdk/c/test/function_test.c -o function_test && ./function_test
 */
#include "../edgerelay_test.h"

EV_ON_INIT() { return ev_auto_response("ping", "pong") != EV_OK; }

EV_ON_CONNECT() {
  const char *room = ev_cat("game-", ev_param("room")), *name = ev_user("username");
  if (!*name) return ev_reject_because("anonymous");
  if (!strcmp(ev_query("v"), "a b")) return EV_REJECT_WITH(426);
  ev_set_attachment(ev_object("room", room, "name", name));
  ev_shared_add(ev_cat("visits:", room), 1, 0, ev_then("visited", room));
  return ev_join(room);
}

EV_ON_MESSAGE(m) {
  const char *room = ev_attachment_text("room");
  if (ev_message_is(m, "quit")) return ev_close(3000, "bye");
  if (ev_message_is(m, "fail")) return ev_send("void"), ev_fail("no");
  if (ev_message_is(m, "echo")) return ev_send("first"), ev_reply(m->data, m->len);
  if (ev_message_is(m, "remind")) return ev_alarm_after("remind", room, 5000, EV_NO_ANSWER);
  if (ev_message_is(m, "ask")) return ev_fetch_once("asked", "POST", "https://example.org/", 0, "?", ev_then("answered", ""));
  if (ev_message_is(m, "lost")) return ev_shared_get("x", ev_then("nowhere", ""));
  if (ev_message_is(m, "store")) {
    ev_shared_get("k", ev_then("note", "none"));
    ev_shared_swap("k", "", "1", 1000, ev_then("note", "swapped"));
    ev_shared_swap("k", "2", "3", 0, ev_then("note", "conflict"));
    ev_shared_add("k", 4, 0, ev_then("note", "sum"));
    ev_shared_push("l", "a", 2, 0, EV_NO_ANSWER);
    ev_shared_push("l", "b", 2, 0, EV_NO_ANSWER);
    ev_shared_push("l", "c\"", 2, 0, EV_NO_ANSWER);
    ev_shared_list("l", 9, ev_then("note", "list"));
    return ev_shared_get("l", ev_then("note", "a list"));
  }
  return ev_publish_others(room, ev_object("from", ev_attachment_text("name"), "text", ev_message_text(m)));
}

EV_ON_CLOSE(code, reason) {
  (void)code, (void)reason;
  return ev_publish(ev_attachment_text("room"), ev_cat(ev_attachment_text("name"), " left"));
}

static ev_result visited(const ev_response *r) { return ev_send(ev_cat(r->context, " ", r->body)); }
static ev_result answered(const ev_response *r) { return ev_send(ev_ok(r) ? r->body : ev_error(r)); }
static ev_result note(const ev_response *r) {
  return ev_send(ev_cat(r->context, " ", ev_number_text(r->status), " ", r->body, " ", ev_value("1")));
}
EV_RESULTS({"visited", visited}, {"answered", answered}, {"note", note})

EV_ON_ALARM(a) { return strcmp(a->payload, "broken") ? ev_publish(a->payload, a->name) : ev_fail("broken"); }

EV_ON_EVENT(e) {
  (void)e;
  if (ev_is("status", "failed")) return ev_post_json("https://example.org/", ev_object("text", "failed"), EV_NO_ANSWER);
  return EV_PASS;
}

static ev_test_client *visitor(const char *name) {
  char request[128];
  snprintf(request, sizeof request, "{\"params\":{\"room\":\"7\"},\"user\":{\"username\":\"%s\"}}", name);
  return ev_test_connect(request);
}
static void nothing(ev_test_client *c) {
  const char *text = ev_test_received(c);
  EV_TEXT("nothing", text ? text : "nothing");
}

EV_TEST(a_conversation) {
  ev_test_client *alice = visitor("alice"), *bob = visitor("bob");
  EV_TEXT("", alice->error);
  EV_TEXT("game-7 1", ev_test_received(alice));
  EV_TEXT("game-7 2", ev_test_received(bob));
  EV_CHECK(ev_test_in_group(bob, "game-7"));
  EV_CHECK(ev_test_text(alice, "hi"));
  nothing(alice);
  EV_TEXT("{\"from\":\"alice\",\"text\":\"hi\"}", ev_test_received(bob));
  ev_test_text(bob, "ping");
  ev_test_text(bob, "echo");
  EV_TEXT("pong", ev_test_received(bob));
  EV_TEXT("first", ev_test_received(bob));
  EV_TEXT("echo", ev_test_received(bob));
  EV_CHECK(!ev_test_text(bob, "fail"));
  EV_TEXT("no", bob->error);
  nothing(bob);
  EV_CHECK(ev_test_text(bob, "quit"));
  EV_CHECK(bob->closed == 3000 && !ev_test_in_group(bob, "game-7"));
  EV_TEXT("bob left", ev_test_received(alice));
  EV_TEXT("bob left", ev_test_published(1)->payload);
  EV_CHECK(!ev_test_text(bob, "late"));
}

EV_TEST(rejections) {
  ev_test_client *c = ev_test_connect("{}");
  EV_CHECK(!c->accepted && c->status == 403);
  EV_TEXT("anonymous", c->reason);
  c = ev_test_connect("{\"query\":\"x=1&v=a%20b\",\"user\":{\"username\":\"a\"},\"params\":{\"room\":\"7\"}}");
  EV_CHECK(c->status == 426);
  EV_CHECK(!ev_test_shared("visits:game-7"));
}

EV_TEST(groups_are_granted) {
  ev_relay.join = "chat-* lobby";
  ev_test_client *c = visitor("alice");
  EV_CHECK(c->status == 403 && strstr(c->error, "patterns"));
}

EV_TEST(alarms_come_until_they_succeed) {
  ev_test_client *alice = visitor("alice");
  ev_test_received(alice);
  ev_test_text(alice, "remind");
  ev_test_advance(4000);
  nothing(alice);
  EV_TEXT("game-7", ev_test_alarm("remind"));
  ev_test_advance(1000);
  EV_TEXT("remind", ev_test_received(alice));
  EV_CHECK(!ev_test_alarm("remind"));
}

static int32_t serve(const char *request, const char *body, const char **answer) {
  *answer = ev_cat(request, body);
  return 200;
}

EV_TEST(fetches) {
  ev_test_client *alice = visitor("alice");
  ev_test_received(alice);
  ev_test_text(alice, "ask");
  EV_TEXT("unavailable", ev_test_received(alice));
  ev_relay.fetch = serve;
  ev_relay.hold = 1;
  ev_test_text(alice, "ask");
  nothing(alice);
  ev_test_respond();
  EV_TEXT("{\"method\":\"POST\",\"url\":\"https://example.org/\",\"headers\":{},\"once\":\"asked\"}?", ev_test_received(alice));
}

EV_TEST(shared_store) {
  ev_test_client *alice = visitor("alice");
  ev_test_received(alice);
  ev_test_text(alice, "store");
  EV_TEXT("none 1  ", ev_test_received(alice));
  EV_TEXT("swapped 0  ", ev_test_received(alice));
  EV_TEXT("conflict 2 1 ", ev_test_received(alice));
  EV_TEXT("sum 0 5 ", ev_test_received(alice));
  EV_TEXT("list 0 [\"b\",\"c\\\"\"] c\"", ev_test_received(alice));
  EV_TEXT("a list -4  ", ev_test_received(alice));
  ev_test_advance(1000);
  EV_CHECK(!ev_test_shared("k"));
}

EV_TEST(clients_may_leave) {
  ev_relay.hold = 1;
  ev_test_client *alice = visitor("alice");
  ev_test_disconnect(alice, 1001, "");
  ev_test_respond();
  EV_TEXT("", alice->error);
  nothing(alice);
}

EV_TEST(unknown_continuations_fail) {
  ev_test_client *alice = visitor("alice");
  ev_test_text(alice, "lost");
  EV_CHECK(strstr(alice->error, "\"nowhere\""));
}

static int fetched;
static int32_t count(const char *request, const char *body, const char **answer) {
  (void)request, (void)body, (void)answer;
  return fetched++, 200;
}

EV_TEST(events_make_requests_but_replays_do_not) {
  ev_relay.fetch = count;
  EV_EXPECT("pass", ev_test_event("jobs", "{\"status\":\"failed\"}"));
  ev_relay.source = "history";
  EV_EXPECT("pass", ev_test_event("jobs", "{\"status\":\"failed\"}"));
  EV_CHECK(fetched == 1);
}

// A function for the tests of the host: a room with a counter of visits, a chat, and a reminder.
import {
  ACCEPT, OK, HTTPRequest, alarms, autoResponse, fail, fetch, object, onAlarm, onClose, onConnect, onInit, onMessage,
  onResult, publish, rejectBecause, rejectWith, shared, then,
} from "../index";
export * from "../function";

onInit(() => autoResponse("ping", "pong"));

onConnect((c) => {
  if (c.user("username") == "") return rejectBecause("anonymous");
  if (c.query("v") == "a b") return rejectWith(426);
  const room = "game-" + c.param("room");
  c.setAttachment(object(["room", room, "name", c.user("username")]));
  shared.add("visits:" + room, 1, 0, then("visited", room));
  return c.join(room) == OK ? ACCEPT : fail("the room is closed");
});

onMessage((c, m) => {
  const room = c.attachmentText("room"), text = m.toString();
  if (text == "quit") return c.close(3000, "bye");
  if (text == "echo") {
    c.send("first");
    return m.reply("echo");
  }
  if (text == "fail") {
    c.send("void");
    return fail("no");
  }
  if (text == "remind") return alarms.after("remind", room, 5000);
  if (text == "lost") return shared.get("x", then("nowhere"));
  if (text == "ask") {
    const r = new HTTPRequest("https://example.org/");
    r.body = "?";
    r.once = "asked";
    return fetch(r, then("answered"));
  }
  if (text == "store") {
    shared.swap("k", "", "1", 1000, then("note", "swapped"));
    shared.swap("k", "2", "3", 0, then("note", "conflict"));
    shared.add("k", 4, 0, then("note", "sum"));
    shared.push("l", "a", 2);
    shared.push("l", "b", 2);
    shared.push("l", "c\"", 2);
    shared.list("l", 9, then("note", "list"));
    return shared.get("l", then("note", "a list"));
  }
  return c.publishOthers(room, object(["from", c.attachmentText("name"), "text", text]));
});

onClose((c, e) => publish(c.attachmentText("room"), c.attachmentText("name") + " left " + e.code.toString()));

onResult("visited", (c, r) => c.send(r.context + " " + r.toString()));
onResult("answered", (c, r) => c.send(r.ok ? r.toString() : r.error));
onResult("note", (c, r) => c.send([r.context, r.status.toString(), r.number.toString(), r.list.join("+")].join(" ")));

onAlarm((a) => a.toString() == "broken" ? fail("broken") : publish(a.toString(), a.name));

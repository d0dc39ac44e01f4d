// An edge function: rooms in which all clients get what one of them sends, and a counter of visits.
import { onConnect, onMessage, onResult, shared, then } from "edgerelay";
export * from "edgerelay/function";

onConnect((c) => {
  const room = "room-" + c.param("room");
  c.setAttachment(room);
  shared.add("visits:" + room, 1, 0, then("visited", room));
  return c.join(room);
});

onMessage((c, m) => c.publish(c.attachment, m.toString()));

onResult("visited", (c, r) =>
  c.send(r.ok ? "visit " + r.toString() + " of " + r.context : "the counter is " + r.error));

// The cursors of all visitors of a page. A client sends the place of its cursor, and the others get it with the
// client's name and color.
import {
  Client, Connect, Message, OK, REJECT, object, onClose, onConnect, onMessage,
} from "../../../sdk/assemblyscript";
export * from "../../../sdk/assemblyscript/function";

const NAME_MAX = 20;
const COLORS = ["#d6336c", "#1971c2", "#2f9e44", "#e8590c", "#7048e8", "#0c8599", "#c2255c", "#5f3dc4"];

// short returns at most NAME_MAX characters of a name.
function short(name: string): string {
  return name.length > NAME_MAX ? name.substring(0, NAME_MAX) : name.length > 0 ? name : "visitor";
}

onConnect((c: Connect): u64 => {
  const group = "cursors_" + c.param("page"), id = c.id;
  if (c.join(group) != OK) return REJECT;
  const color = COLORS[id.charCodeAt(id.length - 1) % COLORS.length];
  const who = ["id", id, "name", short(c.query("name")), "color", color];
  c.send('{"you":' + object(who) + "}");
  return c.setAttachment(object(who.concat(["group", group])));
});

// coordinate returns a member of a message that is a number from 0 to 1, with four digits; "" without one.
function coordinate(m: Message, name: string): string {
  const text = m.text(name);
  if (text === null) return "";
  const n = parseFloat(text);
  return n >= 0 && n <= 1 ? (Math.round(n * 10000) / 10000).toString() : "";
}

// tell publishes something about a client to the others of its page.
function tell(c: Client, members: string): u64 {
  const name = c.attachmentText("name"), color = c.attachmentText("color");
  const about = object(["id", c.attachmentText("id"), "name", name, "color", color]);
  return c.publishOthers(c.attachmentText("group"), about.substring(0, about.length - 1) + members + "}");
}

onMessage((c: Client, m: Message): u64 => {
  const x = coordinate(m, "x"), y = coordinate(m, "y");
  if (x.length == 0 || y.length == 0) return OK; // not a place
  return tell(c, ',"x":' + x + ',"y":' + y);
});

onClose((c: Client): u64 => tell(c, ',"gone":true'));

// A page that stays up to date as pages of AWX do: a socket, a subscription when it opens, another socket
// a while after it has closed, unless it was closed cleanly.
const cookie = (name) => document.cookie.split("; ").find((c) => c.startsWith(name + "="))?.slice(name.length + 1);
const numbers = [];
const closes = [];
let subscriptions = 0;
const loaded = Math.random();
window.site = { numbers, closes, loaded, get subscriptions() { return subscriptions; } };

function connect() {
  const socket = new WebSocket(`ws://${location.host}/websocket/`);
  socket.onopen = () =>
    socket.send(JSON.stringify({ groups: { jobs: ["status_changed"], job_events: [42] }, xrftoken: cookie("csrftoken") }));
  socket.onmessage = ({ data }) => {
    const frame = JSON.parse(data);
    if (frame.groups_current) subscriptions++;
    if (typeof frame.n !== "number") return;
    numbers.push(frame.n);
    const item = document.createElement("li");
    item.textContent = data;
    document.getElementById("events").append(item);
  };
  socket.onclose = ({ code }) => {
    closes.push(code);
    if (code !== 1000) setTimeout(connect, 500);
  };
}
connect();

//! The clients, the shared store, the alarms and the servers of a test.
use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::{copy_out, look_up, missing, Hook, Hooks, Host};
use crate::path::{find, push_quoted};
use crate::{guest, object, quote, Admission, Alarm, Client, Closing, Connect, Message, Response};

/// A request to connect, for [`Host::connect`]. Every field may be empty.
#[derive(Clone, Debug, Default)]
pub struct Handshake<'a> {
    pub path: &'a str,
    pub query: &'a str,
    /// Placeholders of the route's path.
    pub params: &'a [(&'a str, &'a str)],
    /// The user's profile, JSON; empty: an anonymous user.
    pub user: &'a str,
    pub user_key: &'a str,
    pub user_name: &'a str,
    pub address: &'a str,
    /// Headers that the route grants, with names in lower case.
    pub headers: &'a [(&'a str, &'a str)],
    pub subprotocols: &'a [&'a str],
}

impl Handshake<'_> {
    fn json(&self, id: &str) -> String {
        let list: Vec<String> = self.subprotocols.iter().map(|s| quote(s)).collect();
        format!(
            "{{\"id\":{},\"path\":{},\"query\":{},\"params\":{},\"user\":{},\"user_key\":{},\"user_name\":{},\"address\":{},\"headers\":{},\
             \"subprotocols\":[{}]}}",
            quote(id),
            quote(self.path),
            quote(self.query),
            object(self.params),
            if self.user.is_empty() { "null" } else { self.user },
            quote(self.user_key),
            quote(self.user_name),
            quote(self.address),
            object(self.headers),
            list.join(",")
        )
    }
}

/// A message to a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub data: Vec<u8>,
    pub binary: bool,
}

/// A client of a [`Host`], which shows what the plugin did.
#[derive(Clone, Debug, Default)]
pub struct TestClient {
    pub id: String,
    /// Whether the plugin accepted the connection. Otherwise `status` is that of HTTP, and `reason` is for the log.
    pub accepted: bool,
    pub status: u16,
    pub reason: String,
    /// All frames that the client got.
    pub frames: Vec<Frame>,
    /// What the plugin keeps with the connection.
    pub attachment: String,
    pub groups: Vec<String>,
    /// The code and the reason with which the connection ended.
    pub closed: Option<(u16, String)>,
    /// The last failure of a hook or of a continuation for this client.
    pub error: Option<String>,
    left: bool,
    taken: usize,
}

/// What a plugin published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    pub group: String,
    /// Empty: `payload` is the text that clients get.
    pub kind: String,
    pub payload: String,
    /// Whether the client that caused it was left out.
    pub others: bool,
}

/// An HTTP request of a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub method: String,
    pub url: String,
    /// The headers, a JSON object.
    pub headers: String,
    pub body: String,
    /// See [`crate::HttpRequest::once`].
    pub once: String,
}

/// An alarm that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingAlarm {
    pub name: String,
    pub payload: String,
    /// Unix time in milliseconds.
    pub at: i64,
    /// Counts the calls that failed. The alarm comes again a second later.
    pub failures: u32,
}

/// What all calls of a function share.
#[derive(Default)]
pub(super) struct Clients {
    hooks: Hooks,
    started: bool,
    no_group: bool, // a join was refused
    list: Vec<TestClient>,
    auto: BTreeMap<String, String>,
    queue: VecDeque<Request>,
    ending: VecDeque<(usize, u16, String)>,
    shared: BTreeMap<String, Shared>,
    tokens: i64,
}

/// What a call did; it happens if the call succeeds.
#[derive(Default)]
pub(super) struct Effects {
    client: Option<usize>,
    context: String,
    attachment: Option<String>,
    list: Vec<Effect>,
    requests: Vec<Request>,
}

enum Effect {
    Send(Frame),
    Join(String),
    Leave(String),
    Publish(Publication),
    Close(u16, String),
}

struct Request {
    op: Op,
    client: Option<usize>,
    context: String,
}

enum Op {
    Get(String),
    Set { key: String, value: String, ttl: i64 },
    Swap { key: String, expected: String, value: String, ttl: i64 },
    Add { key: String, delta: i64, ttl: i64 },
    Push { key: String, value: String, limit: usize, ttl: i64 },
    List { key: String, limit: usize },
    Alarm { name: String, payload: String, at: i64 },
    Cancel(String),
    Fetch(Fetched),
}

enum Value {
    Text(String),
    List(Vec<String>),
}

struct Shared {
    value: Value,
    expires: Option<i64>,
}

const LIMIT: i32 = -1;
const TOO_LARGE: i32 = -2;
const NOT_GRANTED: i32 = -3;
const MALFORMED: i32 = -4;
const NO_CLIENT: i32 = -5;
const MAX_EFFECTS: usize = 64;
const MAX_REQUESTS: usize = 16;
const MAX_ATTACHMENT: usize = 16 << 10;
const MAX_CONTEXT: usize = 1024;
const MAX_AUTO: usize = 10;
const MAX_AUTO_SIZE: usize = 2048;
const MAX_REASON: usize = 123;

/// Conversations.
impl Host {
    /// Sets the hooks that clients, responses and alarms call, such as the `HOOKS` of [`crate::function!`].
    pub fn function(mut self, hooks: Hooks) -> Host {
        self.clients.hooks = hooks;
        self
    }

    /// Asks the plugin to accept a connection, and returns the client's number, see [`Host::client`].
    pub fn connect(&mut self, handshake: &Handshake) -> usize {
        let number = self.clients.list.len();
        let id = format!("client-{}", number + 1);
        let request = handshake.json(&id);
        self.clients.list.push(TestClient { id, status: 503, ..TestClient::default() });
        self.clients.no_group = false;
        let result = self.ready().and_then(|()| match self.clients.hooks.on_connect {
            None => Ok(Admission::Accept),
            Some(hook) => self.run(Some(number), request.as_bytes(), String::new(), || {
                let admission = hook(&Connect { client: Client(()) });
                let accepted = admission == Admission::Accept;
                (admission, accepted)
            }),
        });
        let c = &mut self.clients.list[number];
        match result {
            Ok(Admission::Accept) => (c.accepted, c.status) = (true, 0),
            Ok(Admission::Reject) => c.status = 403,
            Ok(Admission::RejectWith(status @ 400..=599)) => c.status = status,
            Ok(Admission::RejectBecause(reason)) => (c.status, c.reason) = (403, reason),
            Ok(Admission::RejectWith(status)) => c.error = Some(format!("unknown admission: status {}", status)),
            Ok(Admission::Error(why)) => {
                c.status = if self.clients.no_group { 403 } else { 503 };
                c.error = Some(why);
            }
            Err(why) => c.error = Some(why),
        }
        c.left = !c.accepted;
        self.settle();
        number
    }

    /// A client by its number.
    pub fn client(&self, number: usize) -> &TestClient {
        &self.clients.list[number]
    }

    /// Sends a text message of a client to the plugin. The failure of the hook is an error.
    pub fn text(&mut self, client: usize, text: &str) -> Result<(), String> {
        self.message(client, text.as_bytes(), false)
    }

    /// Sends a binary message of a client to the plugin.
    pub fn binary(&mut self, client: usize, data: &[u8]) -> Result<(), String> {
        self.message(client, data, true)
    }

    fn message(&mut self, client: usize, data: &[u8], binary: bool) -> Result<(), String> {
        let c = &mut self.clients.list[client];
        if !c.accepted || c.closed.is_some() {
            return Err(format!("{} is not connected", c.id));
        }
        let auto = std::str::from_utf8(data).ok().filter(|_| !binary).and_then(|text| self.clients.auto.get(text));
        if let Some(answer) = auto {
            c.frames.push(Frame { data: answer.clone().into_bytes(), binary });
            return Ok(());
        }
        let hook = match self.clients.hooks.on_message {
            None => return Ok(()),
            Some(hook) => hook,
        };
        let result = self.run(Some(client), data, String::new(), || {
            let mut m = Message { payload: data, binary, reply: None };
            let result = guest::forgiven(hook(&Client(()), &mut m)).and_then(|()| match m.reply {
                Some(reply) if super::with(|h| h.send(i32::from(binary), &reply)) != 0 => {
                    Err("the reply was refused; text must be UTF-8".into())
                }
                _ => Ok(()),
            });
            let ok = result.is_ok();
            (result, ok)
        });
        let result = result.and_then(|r| r);
        self.note(Some(client), &result);
        self.settle();
        result
    }

    /// Ends a connection from the client's side.
    pub fn disconnect(&mut self, client: usize, code: u16, reason: &str) {
        if self.clients.list[client].accepted && self.clients.list[client].closed.is_none() {
            self.end(client, code, reason);
            self.settle();
        }
    }

    /// The frames, as text, that the client got since the last call.
    pub fn received(&mut self, client: usize) -> Vec<String> {
        let c = &mut self.clients.list[client];
        let fresh = &c.frames[c.taken..];
        c.taken = c.frames.len();
        fresh.iter().map(|f| String::from_utf8_lossy(&f.data).into_owned()).collect()
    }

    /// Publishes a text to the clients of a group, as another process may.
    pub fn publish_text(&mut self, group: &str, text: &str) {
        for c in self.clients.list.iter_mut().filter(|c| c.groups.iter().any(|g| g == group)) {
            c.frames.push(Frame { data: text.into(), binary: false });
        }
    }

    /// A value of the shared store; of a list, a JSON array.
    pub fn shared(&mut self, key: &str) -> Option<String> {
        self.shared_live(key);
        self.clients.shared.get(key).map(|s| match &s.value {
            Value::Text(text) => text.clone(),
            Value::List(list) => array(list),
        })
    }

    /// Stores a value in the shared store, as another node may.
    pub fn set_shared(&mut self, key: &str, value: &str) {
        self.clients.shared.insert(key.into(), Shared { value: Value::Text(value.into()), expires: None });
    }

    /// Gives the responses that `hold_responses` held back.
    pub fn respond(&mut self) {
        let held = std::mem::take(&mut self.hold_responses);
        self.settle();
        self.hold_responses = held;
    }

    /// Runs the plugin's setup once.
    fn ready(&mut self) -> Result<(), String> {
        if std::mem::replace(&mut self.clients.started, true) {
            return Ok(());
        }
        self.clients.hooks.on_init.map_or(Ok(()), |setup| self.init(setup))
    }

    /// Calls a hook, which tells whether its effects happen.
    fn run<T>(
        &mut self,
        client: Option<usize>,
        document: &[u8],
        context: String,
        f: impl FnOnce() -> (T, bool),
    ) -> Result<T, String> {
        let outcome = self.call(Hook::Function, "", document, || {
            super::with(|h| h.call.effects = Effects { client, context, ..Effects::default() });
            f()
        });
        let (value, ok) = outcome?;
        if ok {
            self.commit();
        }
        Ok(value)
    }

    fn note(&mut self, client: Option<usize>, result: &Result<(), String>) {
        if let Err(why) = result {
            let error = Some(why.clone());
            match client {
                Some(client) => self.clients.list[client].error = error,
                None => self.error = error,
            }
        }
    }

    /// Makes the effects of a call without a client happen, and answers its requests.
    pub(super) fn succeed(&mut self) {
        self.commit();
        self.settle();
    }

    fn commit(&mut self) {
        let done = std::mem::take(&mut self.call.effects);
        if let (Some(client), Some(attachment)) = (done.client, done.attachment) {
            self.clients.list[client].attachment = attachment;
        }
        for effect in done.list {
            self.happen(done.client, effect);
        }
        self.clients.queue.extend(done.requests);
    }

    fn happen(&mut self, client: Option<usize>, effect: Effect) {
        if let Effect::Publish(p) = effect {
            for (i, c) in self.clients.list.iter_mut().enumerate() {
                if p.kind.is_empty() && c.groups.contains(&p.group) && !(p.others && client == Some(i)) {
                    c.frames.push(Frame { data: p.payload.clone().into_bytes(), binary: false });
                }
            }
            self.published.push(p);
            return;
        }
        let number = match client {
            Some(number) => number,
            None => return,
        };
        let c = &mut self.clients.list[number];
        match effect {
            Effect::Send(frame) => c.frames.push(frame),
            Effect::Join(group) if !c.groups.contains(&group) => c.groups.push(group),
            Effect::Leave(group) => c.groups.retain(|g| *g != group),
            Effect::Close(code, reason) if c.closed.is_none() => {
                c.closed = Some((code, reason.clone()));
                self.clients.ending.push_back((number, code, reason));
            }
            _ => {}
        }
    }

    /// Carries out all requests, ends connections, and so on, until nothing is left to do.
    fn settle(&mut self) {
        loop {
            if let Some((client, code, reason)) = self.clients.ending.pop_front() {
                self.end(client, code, &reason);
                continue;
            }
            if self.hold_responses {
                return;
            }
            match self.clients.queue.pop_front() {
                Some(request) => self.answer(request),
                None => return,
            }
        }
    }

    fn end(&mut self, client: usize, code: u16, reason: &str) {
        let c = &mut self.clients.list[client];
        c.closed = Some((code, reason.into()));
        c.left = true;
        c.groups.clear();
        if let Some(hook) = self.clients.hooks.on_close {
            let result = self.run(Some(client), b"", String::new(), || {
                let result = guest::forgiven(hook(&Client(()), &Closing { code, reason }));
                let ok = result.is_ok();
                (result, ok)
            });
            self.note(Some(client), &result.and_then(|r| r));
        }
    }

    fn answer(&mut self, request: Request) {
        let (status, body) = self.serve(request.op);
        let (name, context) = match request.context.split_once('\0') {
            Some((name, context)) => (name.to_string(), context.to_string()),
            None => return,
        };
        let results = self.clients.hooks.on_result.unwrap_or(&[]);
        let result = self.run(request.client, body.as_bytes(), request.context, || {
            let response = Response { status, context: &context, payload: body.as_bytes() };
            let result =
                guest::forgiven(guest::continuation(results, &name).and_then(|hook| hook(&Client(()), &response)));
            let ok = result.is_ok();
            (result, ok)
        });
        self.note(request.client, &result.and_then(|r| r));
    }

    /// Calls the plugin for the alarms that are due, in the order of their times, and sets the clock to each.
    pub(super) fn ring(&mut self, until: i64) {
        loop {
            let due = self.alarms.iter().enumerate().filter(|(_, a)| a.at <= until).min_by_key(|(i, a)| (a.at, *i));
            let mut alarm = match due {
                Some((i, _)) => self.alarms.remove(i),
                None => return,
            };
            if alarm.at > self.time() {
                self.now = Some(alarm.at);
            }
            let result = self.ready().and_then(|()| match self.clients.hooks.on_alarm {
                None => Ok(()),
                Some(hook) => {
                    let (name, payload) = (&alarm.name[..], alarm.payload.as_bytes());
                    let called = self.run(None, payload, String::new(), || {
                        let result = guest::forgiven(hook(&Alarm { name, payload }));
                        let ok = result.is_ok();
                        (result, ok)
                    });
                    called.and_then(|r| r).map_err(|why| format!("alarm {}: {}", name, why))
                }
            });
            self.note(None, &result);
            if result.is_err() && !self.alarms.iter().any(|a| a.name == alarm.name) {
                alarm.at = self.time() + 1000;
                alarm.failures += 1;
                self.alarms.push(alarm);
            }
            self.settle();
        }
    }
}

/// Services.
impl Host {
    fn serve(&mut self, op: Op) -> (i32, String) {
        if let Op::Fetch(request) = op {
            self.fetched.push(request.clone());
            return self.fetch.as_mut().map_or((Response::UNAVAILABLE, String::new()), |f| f(&request));
        }
        if self.unavailable {
            return (Response::UNAVAILABLE, String::new());
        }
        match op {
            Op::Alarm { name, payload, at } => {
                self.alarms.retain(|a| a.name != name);
                self.alarms.push(PendingAlarm { name, payload, at, failures: 0 });
                (Response::OK, String::new())
            }
            Op::Cancel(name) => {
                let before = self.alarms.len();
                self.alarms.retain(|a| a.name != name);
                (i32::from(self.alarms.len() == before), String::new())
            }
            op => self.serve_shared(op),
        }
    }

    fn shared_live(&mut self, key: &str) {
        let now = self.time();
        if self.clients.shared.get(key).and_then(|s| s.expires).map_or(false, |t| now >= t) {
            self.clients.shared.remove(key);
        }
    }

    fn serve_shared(&mut self, op: Op) -> (i32, String) {
        let key = match &op {
            Op::Get(key) => key.clone(),
            Op::Set { key, .. } | Op::Swap { key, .. } | Op::Add { key, .. } => key.clone(),
            Op::Push { key, .. } | Op::List { key, .. } => key.clone(),
            _ => String::new(),
        };
        self.shared_live(&key);
        let invalid = (Response::INVALID, String::new());
        let old = self.clients.shared.get(&key);
        let expires = old.and_then(|s| s.expires);
        let (text, list) = match old.map(|s| &s.value) {
            None => (None, None),
            Some(Value::Text(text)) => (Some(text.clone()), None),
            Some(Value::List(list)) => (None, Some(list.clone())),
        };
        match op {
            Op::Push { .. } | Op::List { .. } if text.is_some() => return invalid,
            Op::Get(_) | Op::Swap { .. } | Op::Add { .. } if list.is_some() => return invalid,
            Op::Get(_) => return text.map_or((Response::NONE, String::new()), |text| (Response::OK, text)),
            Op::Swap { expected, .. } if text.as_deref().unwrap_or_default() != expected => {
                return (Response::CONFLICT, text.unwrap_or_default());
            }
            Op::Set { value, ttl, .. } | Op::Swap { value, ttl, .. } => {
                if value.is_empty() {
                    self.clients.shared.remove(&key);
                } else {
                    let expires = self.expiry(ttl);
                    self.clients.shared.insert(key, Shared { value: Value::Text(value), expires });
                }
            }
            Op::Add { delta, ttl, .. } => {
                let expires = if text.is_some() { expires } else { self.expiry(ttl) };
                let old: i64 = match text.map_or(Ok(0), |text| text.parse()) {
                    Ok(old) => old,
                    Err(_) => return invalid,
                };
                let sum = old.wrapping_add(delta).to_string();
                self.clients.shared.insert(key, Shared { value: Value::Text(sum.clone()), expires });
                return (Response::OK, sum);
            }
            Op::Push { value, limit, ttl, .. } => {
                let mut list = list.unwrap_or_default();
                list.push(value);
                list.drain(..list.len().saturating_sub(limit));
                let expires = self.expiry(ttl);
                self.clients.shared.insert(key, Shared { value: Value::List(list), expires });
            }
            Op::List { limit, .. } => {
                let list = list.unwrap_or_default();
                return (Response::OK, array(&list[list.len().saturating_sub(limit)..]));
            }
            _ => return invalid,
        }
        (Response::OK, String::new())
    }
}

fn array(list: &[String]) -> String {
    let mut out = Vec::from(*b"[");
    for (i, element) in list.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        push_quoted(&mut out, element);
    }
    out.push(b']');
    String::from_utf8(out).unwrap_or_default()
}

/// Whether a name matches a pattern, in which `*` stands for any run of characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => match name.strip_prefix(head) {
            None => false,
            Some(rest) => (0..=rest.len()).any(|i| rest.is_char_boundary(i) && matches(tail, &rest[i..])),
        },
    }
}

/// The code of a group that patterns, of which `None` allows all, do not allow.
fn check_group(patterns: &Option<Vec<String>>, group: &str) -> i32 {
    let valid = !group.is_empty()
        && group.len() < 100
        && group.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'));
    match patterns {
        _ if !valid => MALFORMED,
        Some(patterns) if !patterns.iter().any(|p| matches(p, group)) => NOT_GRANTED,
        _ => 0,
    }
}

/// The host functions.
impl Host {
    fn here(&self) -> bool {
        self.call.effects.client.map_or(false, |c| !self.clients.list[c].left)
    }

    /// Whether the event is of the history: it neither publishes nor makes requests.
    fn replaying(&self) -> bool {
        self.call.hook == Hook::Event && self.source == "history"
    }

    fn count(&self, kind: fn(&Effect) -> bool) -> usize {
        self.call.effects.list.iter().filter(|e| kind(e)).count()
    }

    pub(crate) fn connection_id(&mut self, b: &mut [u8]) -> i32 {
        self.call.effects.client.map_or(-1, |c| copy_out(self.clients.list[c].id.as_bytes(), b))
    }

    pub(crate) fn attachment_get(&mut self, b: &mut [u8]) -> i32 {
        let stored = self.call.effects.client.map(|c| &self.clients.list[c].attachment);
        self.call.effects.attachment.as_ref().or(stored).map_or(0, |text| copy_out(text.as_bytes(), b))
    }

    pub(crate) fn attachment_set(&mut self, text: &str) -> i32 {
        if !self.here() {
            return NO_CLIENT;
        }
        if text.len() > MAX_ATTACHMENT {
            return TOO_LARGE;
        }
        self.call.effects.attachment = Some(text.into());
        0
    }

    pub(crate) fn send(&mut self, kind: i32, data: &[u8]) -> i32 {
        if !self.here() {
            return NO_CLIENT;
        }
        if self.count(|e| matches!(e, Effect::Send(_))) >= MAX_EFFECTS {
            return LIMIT;
        }
        if data.len() > self.call.limit {
            return TOO_LARGE;
        }
        if kind == 0 && std::str::from_utf8(data).is_err() {
            return MALFORMED;
        }
        self.call.effects.list.push(Effect::Send(Frame { data: data.into(), binary: kind == 1 }));
        0
    }

    pub(crate) fn join(&mut self, group: &str) -> i32 {
        self.change_group(group, Effect::Join(group.into()))
    }

    pub(crate) fn leave(&mut self, group: &str) -> i32 {
        self.change_group(group, Effect::Leave(group.into()))
    }

    fn change_group(&mut self, group: &str, effect: Effect) -> i32 {
        if !self.here() {
            return NO_CLIENT;
        }
        let code = check_group(&self.joins, group);
        if code != 0 {
            self.clients.no_group |= matches!(effect, Effect::Join(_));
            return code;
        }
        if self.count(|e| matches!(e, Effect::Join(_) | Effect::Leave(_))) >= MAX_EFFECTS {
            return LIMIT;
        }
        self.call.effects.list.push(effect);
        0
    }

    pub(crate) fn publish(&mut self, group: &str, kind: &str, text: &str, flags: i32) -> i32 {
        let code = check_group(&self.publishes, group);
        if code != 0 {
            return code;
        }
        if matches!(self.call.hook, Hook::Init | Hook::Class) || self.replaying() {
            return NO_CLIENT;
        }
        if text.len() > self.call.limit {
            return TOO_LARGE;
        }
        if !kind.is_empty() && !(text.starts_with('{') && crate::path::one_value(text.as_bytes())) {
            return MALFORMED;
        }
        let (group, kind, payload) = (group.into(), kind.into(), text.into());
        self.call.effects.list.push(Effect::Publish(Publication { group, kind, payload, others: flags & 1 != 0 }));
        0
    }

    pub(crate) fn close(&mut self, code: i32, reason: &str) -> i32 {
        if !self.here() {
            return NO_CLIENT;
        }
        if !matches!(code, 1000 | 1008 | 1011 | 1013 | 3000..=4999) || reason.len() > MAX_REASON {
            return MALFORMED;
        }
        self.call.effects.list.push(Effect::Close(code as u16, reason.into()));
        0
    }

    pub(crate) fn auto_response(&mut self, request: &str, response: &str) -> i32 {
        if self.call.hook != Hook::Init {
            return MALFORMED;
        }
        if self.clients.auto.len() >= MAX_AUTO {
            return LIMIT;
        }
        if request.len() > MAX_AUTO_SIZE || response.len() > MAX_AUTO_SIZE {
            return TOO_LARGE;
        }
        self.clients.auto.insert(request.into(), response.into());
        0
    }

    pub(crate) fn result_context(&mut self, b: &mut [u8]) -> i32 {
        copy_out(self.call.effects.context.as_bytes(), b)
    }

    /// Keeps a request until the hook has succeeded, and returns a token.
    fn ask(&mut self, op: Op, context: &str) -> i64 {
        let grant = match op {
            Op::Fetch(_) => "fetch",
            Op::Alarm { .. } | Op::Cancel(_) => "alarms",
            _ => "shared",
        };
        assert!(self.granted(grant), "{}", missing(grant));
        if context.len() > MAX_CONTEXT {
            return TOO_LARGE.into();
        }
        if self.replaying() {
            return NO_CLIENT.into();
        }
        if matches!(self.call.hook, Hook::Init | Hook::Class) {
            return MALFORMED.into();
        }
        if self.call.effects.requests.len() >= MAX_REQUESTS {
            return LIMIT.into();
        }
        let client = self.call.effects.client;
        self.call.effects.requests.push(Request { op, client, context: context.into() });
        self.clients.tokens += 1;
        self.clients.tokens
    }

    pub(crate) fn shared_get(&mut self, key: &str, context: &str) -> i64 {
        self.ask(Op::Get(key.into()), context)
    }

    pub(crate) fn shared_set(&mut self, key: &str, value: &str, ttl: i64, context: &str) -> i64 {
        self.ask(Op::Set { key: key.into(), value: value.into(), ttl }, context)
    }

    pub(crate) fn shared_swap(&mut self, key: &str, expected: &str, value: &str, ttl: i64, context: &str) -> i64 {
        self.ask(Op::Swap { key: key.into(), expected: expected.into(), value: value.into(), ttl }, context)
    }

    pub(crate) fn shared_add(&mut self, key: &str, delta: i64, ttl: i64, context: &str) -> i64 {
        self.ask(Op::Add { key: key.into(), delta, ttl }, context)
    }

    pub(crate) fn shared_push(&mut self, key: &str, value: &str, limit: i32, ttl: i64, context: &str) -> i64 {
        self.ask(Op::Push { key: key.into(), value: value.into(), limit: limit.max(0) as usize, ttl }, context)
    }

    pub(crate) fn shared_list(&mut self, key: &str, limit: i32, context: &str) -> i64 {
        self.ask(Op::List { key: key.into(), limit: limit.max(0) as usize }, context)
    }

    pub(crate) fn alarm_set(&mut self, name: &str, payload: &str, at: i64, context: &str) -> i64 {
        let at = if at < 1_000_000_000_000 { self.time() + at } else { at };
        self.ask(Op::Alarm { name: name.into(), payload: payload.into(), at }, context)
    }

    pub(crate) fn alarm_cancel(&mut self, name: &str, context: &str) -> i64 {
        self.ask(Op::Cancel(name.into()), context)
    }

    pub(crate) fn fetch(&mut self, request: &str, body: &str, context: &str) -> i64 {
        let member = |path: &str| {
            let mut b = vec![0; request.len()];
            let n = look_up(request.as_bytes(), path, &mut b).max(0) as usize;
            String::from_utf8_lossy(&b[..n]).into_owned()
        };
        let headers = find(request.as_bytes(), "headers").map_or_else(String::new, |r| request[r].into());
        let (method, url, body, once) = (member("method"), member("url"), body.into(), member("once"));
        self.ask(Op::Fetch(Fetched { method, url, headers, body, once }), context)
    }
}

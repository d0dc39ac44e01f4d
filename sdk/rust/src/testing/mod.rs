//! A replacement for the relay, for `cargo test`. It does not exist in WebAssembly.
//!
//! ```
//! use edgerelay::testing::{Hooks, Host};
//! use edgerelay::{kv_incr, Event, Verdict};
//!
//! fn third(_: &mut Event) -> Verdict {
//!     if kv_incr("n", 1, 1000) == Some(3) { Verdict::Pass } else { Verdict::Drop }
//! }
//!
//! let mut host = Host::new("null");
//! assert_eq!(host.event(third, "g", "{}").unwrap().verdict, "drop");
//! assert_eq!(host.event(third, "g", "{}").unwrap().verdict, "drop");
//! assert_eq!(host.event(third, "g", "{}").unwrap().verdict, "pass");
//! assert_eq!(host.stored("n").as_deref(), Some("3"));
//! host.advance(1000);
//! assert_eq!(host.event(third, "g", "{}").unwrap().verdict, "drop");
//! // Golden samples, which `caddy edgerelay plugin test` also reads:
//! let hooks = Hooks { on_event: Some(third), ..Hooks::default() };
//! # let _ = || {
//! host.check(&hooks, "events.ndjson").unwrap();
//! # };
//! ```
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::rc::{Rc, Weak};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::path::{find, push_quoted, unescape};
use crate::{Answer, Event, Level, Request, Verdict, EVERYBODY};

mod function;
mod samples;
pub use function::{Fetched, Frame, Handshake, PendingAlarm, Publication, TestClient};
pub use samples::Hooks;

/// Replaces the relay in tests: it gives input to a plugin's hooks and checks results as the relay does. The store and
/// the counters last from call to call. It counts no fuel and limits no memory.
///
/// A plugin's variables are those of one instance, so tests that use a host wait for each other: other threads'
/// [`Host::new`] returns when this thread has dropped its hosts.
#[derive(Default)]
pub struct Host {
    /// The plugin's configuration, JSON; empty means null.
    pub config: String,
    /// The plugin's grants: emit, metrics, kv, clock, tick. A call that needs another one fails. `None`: all.
    pub grants: Option<Vec<String>>,
    /// How the next events reached the node, `layer`, `peer` or `history`; empty if that is not known.
    pub source: String,
    /// When the emitter sent the next events, as Unix time in milliseconds, if that is known.
    pub sent: Option<i64>,
    /// The place of the next events in the history of their group, a token; empty if they have none.
    pub position: String,
    /// The plugin's clock, Unix time in milliseconds, which then stands still; `None`: the real time.
    pub now: Option<i64>,
    /// How often the next events have been sent from group to group. The relay allows four times.
    pub hops: u32,
    /// Limits a replacement and each emitted event, in bytes; 0: 1 MiB, or eight times the input if that is more.
    pub max_result: usize,
    /// Whether replacements must be JSON. The check looks at brackets and strings only.
    pub json: bool,
    /// Limits the key-value store, in bytes of keys and values; 0: 1 MiB. Each entry counts 64 bytes more.
    pub store_limit: usize,
    /// Patterns of the groups that the plugin may join and publish to. `None`: all.
    pub joins: Option<Vec<String>>,
    pub publishes: Option<Vec<String>>,
    /// Answers HTTP requests, with a status of HTTP or one below 0; `None`: no server is available.
    pub fetch: Option<Box<dyn FnMut(&Fetched) -> (i32, String)>>,
    /// Makes the shared store and the alarms fail with [`crate::Response::UNAVAILABLE`].
    pub unavailable: bool,
    /// Keeps requests unanswered until [`Host::respond`].
    pub hold_responses: bool,
    /// What the plugin published and requested of servers.
    pub published: Vec<Publication>,
    pub fetched: Vec<Fetched>,
    /// The alarms that are set. [`Host::advance`] calls the plugin when they are due.
    pub alarms: Vec<PendingAlarm>,
    /// The last failure of an alarm, or of a continuation without a client.
    pub error: Option<String>,
    /// The plugin's log lines. Text beyond 4 KiB is cut.
    pub logged: Vec<(Level, String)>,
    /// The plugin's counters.
    pub metrics: BTreeMap<String, i64>,
    store: BTreeMap<String, Entry>,
    clients: function::Clients,
    call: Call,
    _exclusive: Option<Rc<MutexGuard<'static, ()>>>,
}

struct Entry {
    value: String,
    expires: Option<i64>,
}

/// The call in flight.
#[derive(Default)]
struct Call {
    hook: Hook,
    group: String,
    document: Vec<u8>,
    limit: usize,
    audience: u64,
    emitted: Vec<Emission>,
    effects: function::Effects,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hook {
    #[default]
    Init,
    Event,
    Class,
    Subscribe,
    Tick,
    /// A hook of clients, responses or alarms.
    Function,
}

/// An event that a plugin emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Empty: the original event's group.
    pub group: String,
    pub payload: String,
    pub audience: u64,
    /// The position that the plugin has given the event; empty with [`crate::emit`].
    pub position: String,
}

/// The result of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// pass, drop or replace.
    pub verdict: &'static str,
    /// The event's payload or the replacement; empty if the event is dropped.
    pub payload: String,
    /// A bit for each class of subscribers that gets the payload.
    pub audience: u64,
    /// The emitted events, in order.
    pub emitted: Vec<Emission>,
}

/// The result of a request to subscribe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allow: bool,
    pub class: u8,
    /// Of a denial.
    pub reason: String,
}

/// Held by the thread whose test runs.
static RUNNING: Mutex<()> = Mutex::new(());

thread_local! {
    static CURRENT: RefCell<Option<Host>> = RefCell::default();
    static HELD: RefCell<Weak<MutexGuard<'static, ()>>> = RefCell::default();
}

/// Limits of the ABI.
const MAX_EMITS: usize = 16;
const MAX_HOPS: u32 = 4;
const MAX_CLASS: u8 = 63;
const MAX_METRICS: usize = 32;
const MAX_LOG_TEXT: usize = 4096;
const MAX_REASON: usize = 512;
const ENTRY_OVERHEAD: usize = 64;
const DEFAULT_RESULT: usize = 1 << 20;
const DEFAULT_STORE: usize = 1 << 20;

/// Gives a host function of the SDK the host whose call is in flight.
pub(crate) fn with<T>(f: impl FnOnce(&mut Host) -> T) -> T {
    const NONE: &str =
        "edgerelay: there is no host outside WebAssembly; call the hook through edgerelay::testing::Host";
    CURRENT.with(|current| f(current.borrow_mut().as_mut().expect(NONE)))
}

impl Host {
    /// A host with a configuration, JSON.
    pub fn new(config: &str) -> Host {
        let exclusive = HELD.with(|held| {
            let held_here = held.borrow().upgrade();
            held_here.unwrap_or_else(|| {
                let guard = Rc::new(RUNNING.lock().unwrap_or_else(PoisonError::into_inner));
                *held.borrow_mut() = Rc::downgrade(&guard);
                guard
            })
        });
        Host { config: config.into(), _exclusive: Some(exclusive), ..Host::default() }
    }

    /// Moves the plugin's clock on, and stops it there. The plugin gets its alarms on the way.
    pub fn advance(&mut self, ms: i64) {
        let until = self.time() + ms;
        self.ring(until);
        self.now = Some(until);
    }

    /// A value of the plugin's store.
    pub fn stored(&mut self, key: &str) -> Option<String> {
        self.live(key).map(|e| e.value.clone())
    }

    /// Runs the plugin's setup function.
    pub fn init(&mut self, setup: fn() -> Result<(), String>) -> Result<(), String> {
        self.call(Hook::Init, "", b"", setup)?
    }

    /// Calls a hook with an event. A failure is an error.
    pub fn event(&mut self, hook: fn(&mut Event) -> Verdict, group: &str, payload: &str) -> Result<Outcome, String> {
        self.verdict(Hook::Event, group, payload, hook)
    }

    /// Calls a hook that renders an event for a class, 0 to 63.
    pub fn class(
        &mut self,
        hook: fn(u8, &mut Event) -> Verdict,
        class: u8,
        group: &str,
        payload: &str,
    ) -> Result<Outcome, String> {
        if class > MAX_CLASS {
            return Err(format!("class {}: classes are 0 to {}", class, MAX_CLASS));
        }
        self.verdict(Hook::Class, group, payload, |e| hook(class, e))
    }

    /// Asks a hook whether a user, given as a JSON value, may subscribe to a group.
    pub fn subscribe(&mut self, hook: fn(&Request) -> Answer, user: &str, group: &str) -> Result<Decision, String> {
        let mut request = format!("{{\"user\":{},\"group\":", if user.is_empty() { "null" } else { user }).into_bytes();
        push_quoted(&mut request, group);
        request.push(b'}');
        let answer = self.call(Hook::Subscribe, "", &request, || hook(&Request(())))?;
        if !matches!(answer, Answer::Error(_)) {
            self.succeed();
        }
        match answer {
            Answer::Allow => Ok(Decision { allow: true, ..Decision::default() }),
            Answer::Deny => Ok(Decision::default()),
            Answer::AllowAs(class) if class > MAX_CLASS => Err(format!("unknown answer: class {}", class)),
            Answer::AllowAs(class) => Ok(Decision { allow: true, class, ..Decision::default() }),
            Answer::DenyBecause(mut reason) => {
                cut(&mut reason, MAX_REASON);
                Ok(Decision { reason, ..Decision::default() })
            }
            Answer::Error(why) => Err(self.reported(why)),
        }
    }

    /// Calls a hook as the relay does at each interval.
    pub fn tick(&mut self, hook: fn() -> Result<(), String>) -> Result<Outcome, String> {
        if !self.granted("tick") {
            return Err(missing("tick"));
        }
        match self.call(Hook::Tick, "", b"", hook)? {
            Err(why) => Err(self.reported(why)),
            Ok(()) => Ok(self.outcome("pass", String::new())),
        }
    }

    fn verdict(
        &mut self,
        name: Hook,
        group: &str,
        payload: &str,
        hook: impl Fn(&mut Event) -> Verdict,
    ) -> Result<Outcome, String> {
        let mut copy = payload.as_bytes().to_vec(); // which the plugin may change
        match self.call(name, group, payload.as_bytes(), || hook(&mut Event::new(group, &mut copy)))? {
            Verdict::Pass => Ok(self.outcome("pass", payload.into())),
            Verdict::Drop => Ok(self.outcome("drop", String::new())),
            Verdict::Error(why) => Err(self.reported(why)),
            Verdict::Replace(out) if out.len() > self.call.limit => {
                Err(format!("the replacement has {} bytes, more than max_result ({})", out.len(), self.call.limit))
            }
            Verdict::Replace(out) => match String::from_utf8(out) {
                Err(e) => Err(format!("the replacement is not UTF-8: {}", e)),
                Ok(out) if self.json && !crate::path::one_value(out.as_bytes()) => {
                    Err(format!("the replacement is not JSON: {}", out))
                }
                Ok(out) => Ok(self.outcome("replace", out)),
            },
        }
    }

    fn outcome(&mut self, verdict: &'static str, payload: String) -> Outcome {
        let (emitted, audience) = (std::mem::take(&mut self.call.emitted), self.call.audience);
        self.succeed();
        Outcome { verdict, payload, audience, emitted }
    }

    /// Logs the reason of a failure, as the SDK does in WebAssembly.
    fn reported(&mut self, why: String) -> String {
        self.log(Level::Error, &why);
        format!("the plugin reported an error: {}", why)
    }

    /// Runs `f` with this host as the current one. A panic is an error.
    fn call<T>(&mut self, hook: Hook, group: &str, document: &[u8], f: impl FnOnce() -> T) -> Result<T, String> {
        let limit = match self.max_result {
            0 => DEFAULT_RESULT.max(8 * (group.len() + document.len())),
            n => n,
        };
        let (group, document) = (group.into(), document.into());
        self.call = Call { hook, group, document, limit, audience: EVERYBODY, ..Call::default() };
        let outer = CURRENT.with(|current| current.replace(Some(std::mem::take(self))));
        let result = catch_unwind(AssertUnwindSafe(f));
        *self = CURRENT.with(|current| current.replace(outer)).expect("the call has a host");
        result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("the plugin panicked: {}", text.unwrap_or("without a message"))
        })
    }

    fn granted(&self, grant: &str) -> bool {
        self.grants.as_ref().map_or(true, |grants| grants.iter().any(|g| g == grant))
    }

    /// Ends a call without the grant. The relay refuses such a module when it is loaded.
    fn need(&self, grant: &str) {
        assert!(self.granted(grant), "{}", missing(grant));
    }

    fn live(&mut self, key: &str) -> Option<&Entry> {
        let expires = self.store.get(key)?.expires;
        if expires.map_or(false, |t| self.time() >= t) {
            self.store.remove(key);
        }
        self.store.get(key)
    }

    fn put(&mut self, key: &str, value: String, expires: Option<i64>) -> bool {
        let keys: Vec<String> = self.store.keys().cloned().collect();
        let mut size = key.len() + value.len() + ENTRY_OVERHEAD;
        for k in keys.iter().filter(|k| *k != key) {
            size += self.live(k).map_or(0, |e| k.len() + e.value.len() + ENTRY_OVERHEAD);
        }
        let limit = if self.store_limit == 0 { DEFAULT_STORE } else { self.store_limit };
        if size > limit {
            return false;
        }
        self.store.insert(key.into(), Entry { value, expires });
        true
    }

    /// When an entry ends; never without a TTL, or with one beyond the relay's range of durations.
    fn expiry(&self, ttl: i64) -> Option<i64> {
        Some(ttl).filter(|&ttl| ttl > 0 && ttl <= i64::MAX / 1_000_000).map(|ttl| self.time() + ttl)
    }

    fn time(&self) -> i64 {
        let real = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        self.now.unwrap_or_else(real)
    }

    fn has_event(&self) -> bool {
        matches!(self.call.hook, Hook::Event | Hook::Class)
    }
}

/// The host functions.
impl Host {
    pub(crate) fn log(&mut self, level: Level, text: &str) {
        let mut text = text.to_string();
        cut(&mut text, MAX_LOG_TEXT);
        self.logged.push((level, text));
    }

    pub(crate) fn config(&mut self, b: &mut [u8]) -> i32 {
        copy_out(self.config_text().as_bytes(), b)
    }

    pub(crate) fn config_get(&mut self, path: &str, b: &mut [u8]) -> i32 {
        look_up(self.config_text().as_bytes(), path, b)
    }

    fn config_text(&self) -> &str {
        if self.config.is_empty() {
            "null"
        } else {
            &self.config
        }
    }

    pub(crate) fn json_get(&mut self, path: &str, b: &mut [u8]) -> i32 {
        look_up(&self.call.document, path, b)
    }

    pub(crate) fn json_find(&mut self, path: &str) -> i64 {
        find(&self.call.document, path).map_or(-1, |r| (r.start as i64) << 32 | r.len() as i64)
    }

    pub(crate) fn event_source(&mut self, b: &mut [u8]) -> i32 {
        if self.source.is_empty() || !self.has_event() {
            return -1;
        }
        copy_out(self.source.as_bytes(), b)
    }

    pub(crate) fn event_sent_ms(&mut self) -> i64 {
        self.sent.filter(|_| self.has_event()).unwrap_or(-1)
    }

    pub(crate) fn event_position(&mut self, b: &mut [u8]) -> i32 {
        if self.position.is_empty() || !self.has_event() {
            return -1;
        }
        copy_out(self.position.as_bytes(), b)
    }

    pub(crate) fn audience(&mut self, mask: u64) {
        if self.call.hook == Hook::Event {
            self.call.audience &= mask;
        }
    }

    pub(crate) fn emit(&mut self, group: &str, payload: &[u8], audience: u64) -> i32 {
        self.emit_at(group, payload, audience, "")
    }

    pub(crate) fn emit_at(&mut self, group: &str, payload: &[u8], audience: u64, position: &str) -> i32 {
        self.need("emit");
        if !position.is_empty() && !valid_position(position.as_bytes()) {
            return -5;
        }
        let tick = self.call.hook == Hook::Tick;
        if self.call.hook != Hook::Event && !tick {
            return 0;
        }
        let other = !group.is_empty() && group != self.call.group;
        let named = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        let valid = !other || group.len() <= 99 && group.bytes().all(named);
        if tick && group.is_empty() {
            return -4;
        }
        if self.call.emitted.len() >= MAX_EMITS {
            return -1;
        }
        if payload.len() > self.call.limit {
            return -2;
        }
        if other && self.hops >= MAX_HOPS && !tick {
            return -3;
        }
        match String::from_utf8(payload.into()) {
            Ok(payload) if valid => {
                let group = if other { group.into() } else { String::new() };
                self.call.emitted.push(Emission { group, payload, audience, position: position.into() });
                0
            }
            _ => -4,
        }
    }

    pub(crate) fn metric_add(&mut self, name: &str, delta: i64) -> i32 {
        self.need("metrics");
        let valid = name.len() <= 64
            && name.bytes().enumerate().all(|(i, c)| matches!(c, b'a'..=b'z' | b'_') || i > 0 && c.is_ascii_digit());
        if delta < 0 || name.is_empty() || !valid {
            return -1;
        }
        if self.metrics.len() >= MAX_METRICS && !self.metrics.contains_key(name) {
            return -2;
        }
        *self.metrics.entry(name.into()).or_default() += delta;
        0
    }

    pub(crate) fn kv_get(&mut self, key: &str, b: &mut [u8]) -> i32 {
        self.need("kv");
        self.live(key).map_or(-1, |e| copy_out(e.value.as_bytes(), b))
    }

    pub(crate) fn kv_set(&mut self, key: &str, value: &str, ttl: i64) -> i32 {
        self.need("kv");
        if value.is_empty() {
            self.store.remove(key);
            return 0;
        }
        let expires = self.expiry(ttl);
        i32::from(self.put(key, value.into(), expires)) - 1
    }

    pub(crate) fn kv_incr(&mut self, key: &str, delta: i64, ttl: i64) -> i64 {
        self.need("kv");
        let (sum, expires) = match self.live(key) {
            None => (Some(delta), self.expiry(ttl)),
            Some(e) => (e.value.parse::<i64>().ok().map(|n| n.wrapping_add(delta)), e.expires),
        };
        match sum {
            Some(sum) if self.put(key, sum.to_string(), expires) => sum,
            _ => i64::MIN,
        }
    }

    pub(crate) fn now(&mut self) -> i64 {
        self.need("clock");
        self.time()
    }
}

/// Whether a text is a token of a position: 128 bits in 22 characters, or 144 bits in 24 of which the last 16 are not 0.
fn valid_position(token: &[u8]) -> bool {
    let whole = |c: u8| matches!(c, b'A' | b'Q' | b'g' | b'w'); // ends with four bits 0
    let known = token.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'));
    known
        && match token.len() {
            22 => whole(token[21]) && token.iter().any(|&c| c != b'A'),
            24 => !(whole(token[21]) && &token[22..] == b"AA"),
            _ => false,
        }
}

fn missing(grant: &str) -> String {
    format!("the plugin needs the grant {0}; add it to Host::grants, and to the plugin's block as 'grant {0}'", grant)
}

/// Cuts a text to at most `limit` bytes, between characters.
fn cut(text: &mut String, limit: usize) {
    let mut n = limit.min(text.len());
    while !text.is_char_boundary(n) {
        n -= 1;
    }
    text.truncate(n);
}

/// Returns the length, and copies the bytes if there is room, as the relay does.
fn copy_out(value: &[u8], b: &mut [u8]) -> i32 {
    if let Some(b) = b.get_mut(..value.len()) {
        b.copy_from_slice(value);
    }
    value.len() as i32
}

fn look_up(doc: &[u8], path: &str, b: &mut [u8]) -> i32 {
    match find(doc, path) {
        Some(r) => copy_out(&decoded(&doc[r]), b),
        None => -1,
    }
}

/// The text of a string, and any other value unchanged.
fn decoded(value: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    match value {
        [b'"', inner @ .., b'"'] if inner.contains(&b'\\') => unescape(inner),
        [b'"', inner @ .., b'"'] => inner.into(),
        _ => value.into(),
    }
}

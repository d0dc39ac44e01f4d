//! Golden samples, in the form that `caddy edgerelay plugin test` reads.
use std::borrow::Cow;
use std::fs;
use std::path::Path;

use super::{decoded, Decision, Host, Outcome};
use crate::path::{find, skip_space, skip_string, skip_value, space};
use crate::{Admission, Alarm, Answer, Client, Closing, Connect, Event, Message, Request, Results, Verdict, EVERYBODY};

/// The hooks of a plugin, for [`Host::check`] and [`Host::function`].
#[derive(Clone, Copy, Default)]
pub struct Hooks {
    pub on_event: Option<fn(&mut Event) -> Verdict>,
    pub on_class: Option<fn(u8, &mut Event) -> Verdict>,
    pub on_subscribe: Option<fn(&Request) -> Answer>,
    pub on_tick: Option<fn() -> Result<(), String>>,
    pub on_init: Option<fn() -> Result<(), String>>,
    pub on_connect: Option<fn(&Connect) -> Admission>,
    pub on_message: Option<fn(&Client, &mut Message) -> Result<(), String>>,
    pub on_close: Option<fn(&Client, &Closing) -> Result<(), String>>,
    pub on_result: Option<Results>,
    pub on_alarm: Option<fn(&Alarm) -> Result<(), String>>,
}

impl Hooks {
    /// No hook.
    pub const NONE: Hooks = Hooks {
        on_event: None,
        on_class: None,
        on_subscribe: None,
        on_tick: None,
        on_init: None,
        on_connect: None,
        on_message: None,
        on_close: None,
        on_result: None,
        on_alarm: None,
    };
}

impl Host {
    /// Calls the hooks with the golden samples of a file, in order, and returns the differences from the expected
    /// results. Each line is a JSON object:
    ///
    /// - `hook` is on_event, on_class, on_subscribe or on_tick. Without it, a sample with a class is for on_class, a
    ///   sample with a user and no payload is for on_subscribe, and any other sample is for on_event.
    /// - `group`, `payload` (or `text`, which may be any text), `user`, `class`, `source`, `sent` and `position` are the
    ///   input.
    /// - `clock` sets the plugin's clock. Times are RFC 3339 or Unix milliseconds.
    /// - `verdict` is pass, drop or replace, of on_subscribe allow or deny, and error for a call that must fail.
    ///   `output` (or `output_text`), `audience`, `emits`, `want_class` and `reason` are the other expectations. All are
    ///   optional.
    pub fn check(&mut self, hooks: &Hooks, file: impl AsRef<Path>) -> Result<(), String> {
        let file = file.as_ref();
        let text = fs::read_to_string(file).map_err(|e| format!("{}: {}", file.display(), e))?;
        let (mut faults, mut tried) = (Vec::new(), 0);
        let lines = text.lines().map(str::trim).enumerate();
        for (i, line) in lines.filter(|(_, line)| !line.is_empty() && !is_gap(line)) {
            tried += 1;
            if let Err(e) = Sample::parse(line).and_then(|s| self.attempt(hooks, &s)) {
                faults.push(format!("{}:{}: {}", file.display(), i + 1, e));
            }
        }
        if tried == 0 {
            faults.push(format!("{} contains no sample", file.display()));
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(faults.join("\n"))
        }
    }

    /// Calls the sample's hook and returns the difference from the expected result.
    fn attempt(&mut self, hooks: &Hooks, s: &Sample) -> Result<(), String> {
        if s.clock.is_some() {
            self.now = s.clock;
        }
        self.source = s.source.clone();
        self.sent = s.sent;
        self.position = s.position.clone();
        let payload = s.payload.as_deref().unwrap_or_default();
        match s.hook() {
            "on_event" if hooks.on_event.is_some() => s.compare(self.event(hooks.on_event.unwrap(), &s.group, payload)),
            "on_class" if hooks.on_class.is_some() => {
                let class = s.class.ok_or("no class; add class, 0 to 63")?;
                s.compare(self.class(hooks.on_class.unwrap(), class, &s.group, payload))
            }
            "on_subscribe" if hooks.on_subscribe.is_some() => {
                let user = s.user.as_deref().unwrap_or("null");
                s.compare_decision(self.subscribe(hooks.on_subscribe.unwrap(), user, &s.group))
            }
            "on_tick" if hooks.on_tick.is_some() => s.compare(self.tick(hooks.on_tick.unwrap())),
            hook @ ("on_event" | "on_class" | "on_subscribe" | "on_tick") => {
                Err(format!("a sample of {}, but Hooks has no such hook", hook))
            }
            hook => Err(format!("unknown hook {:?}; use on_event, on_class, on_subscribe or on_tick", hook)),
        }
    }
}

#[derive(Default)]
struct Sample {
    hook: String,
    group: String,
    source: String,
    position: String,
    verdict: String,
    reason: String,
    payload: Option<String>,
    user: Option<String>,
    output: Option<String>,
    class: Option<u8>,
    want_class: Option<u8>,
    sent: Option<i64>,
    clock: Option<i64>,
    audience: Option<u64>,
    emits: Option<Vec<Emits>>,
}

#[derive(Default)]
struct Emits {
    group: String,
    payload: Option<String>,
    audience: Option<u64>,
    position: Option<String>,
}

impl Sample {
    /// Parses a line. A line without the members of a sample is a payload itself.
    fn parse(line: &str) -> Result<Sample, String> {
        let members = members(line).unwrap_or_default();
        if !is_sample(&members)? {
            return Ok(Sample { group: "test".into(), payload: Some(line.into()), ..Sample::default() });
        }
        let mut s = Sample::default();
        for (i, (name, value)) in members.iter().enumerate() {
            s.set(name, value).map_err(|e| format!("{}: {}", name, e))?;
            if members[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("{}: the member occurs twice", name));
            }
        }
        Ok(s)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "hook" => self.hook = string(value)?,
            "group" => self.group = string(value)?,
            "payload" | "data" => self.payload = Some(value.into()),
            "text" => self.payload = Some(string(value)?),
            "user" => self.user = Some(value.into()),
            "class" => self.class = Some(number(value)?),
            "source" => self.source = string(value)?,
            "position" => self.position = string(value)?,
            "sent" => self.sent = Some(time(value)?),
            "clock" | "at" => self.clock = Some(time(value)?),
            "verdict" => self.verdict = string(value)?,
            "output" => self.output = Some(value.into()),
            "output_text" => self.output = Some(string(value)?),
            "audience" => self.audience = Some(audience(value)?),
            "emits" => self.emits = Some(emits(value)?),
            "want_class" => self.want_class = Some(number(value)?),
            "reason" => self.reason = string(value)?,
            _ => return Err("unknown member of a sample".into()),
        }
        Ok(())
    }

    fn hook(&self) -> &str {
        match () {
            _ if !self.hook.is_empty() => &self.hook,
            _ if self.class.is_some() => "on_class",
            _ if self.user.is_some() && self.payload.is_none() => "on_subscribe",
            _ => "on_event",
        }
    }

    /// Compares the verdict. It returns whether there is more to compare.
    fn compare_verdict(&self, verdict: &str, error: &str) -> Result<(), String> {
        if self.verdict.is_empty() && verdict == "error" {
            return Err(error.into());
        }
        if !self.verdict.is_empty() && self.verdict != verdict {
            return Err(format!("verdict {}, want {} ({})", verdict, self.verdict, error));
        }
        if verdict == "error" && !error.contains(&self.reason) {
            return Err(format!("the error is {:?}, want {:?}", error, self.reason));
        }
        Ok(())
    }

    fn compare(&self, result: Result<Outcome, String>) -> Result<(), String> {
        let got = match result {
            Err(e) => return self.compare_verdict("error", &e),
            Ok(got) => got,
        };
        self.compare_verdict(got.verdict, "")?;
        if let (Some(output), false) = (&self.output, got.verdict == "replace") {
            return Err(format!("verdict {}, want the output {}", got.verdict, output));
        }
        if let (Some(mask), "drop") = (self.audience, got.verdict) {
            return Err(format!("verdict drop, want the audience {:#x}", mask));
        }
        if let Some(output) = self.output.as_deref().filter(|output| !same(output, &got.payload)) {
            return Err(format!("output {}, want {}", got.payload, output));
        }
        if let Some(mask) = self.audience.filter(|mask| *mask != got.audience) {
            return Err(format!("audience {:#x}, want {:#x}", got.audience, mask));
        }
        let emits = match &self.emits {
            None => return Ok(()),
            Some(emits) => emits,
        };
        if emits.len() != got.emitted.len() {
            return Err(format!("{} events emitted, want {}", got.emitted.len(), emits.len()));
        }
        for (want, got) in emits.iter().zip(&got.emitted) {
            // The host returns an empty group for the event's own.
            let group = if want.group == self.group { "" } else { &want.group };
            let payload = want.payload.as_deref();
            if group != got.group || payload.map_or(false, |p| !same(p, &got.payload)) {
                let payload = payload.unwrap_or("any payload");
                return Err(format!("emitted {} to {:?}, want {} to {:?}", got.payload, got.group, payload, group));
            }
            if let Some(mask) = want.audience.filter(|mask| *mask != got.audience) {
                return Err(format!("emitted for audience {:#x}, want {:#x}", got.audience, mask));
            }
            if let Some(at) = want.position.as_deref().filter(|at| *at != got.position) {
                return Err(format!("emitted at the position {:?}, want {:?}", got.position, at));
            }
        }
        Ok(())
    }

    fn compare_decision(&self, result: Result<Decision, String>) -> Result<(), String> {
        let got = match result {
            Err(e) => return self.compare_verdict("error", &e),
            Ok(got) => got,
        };
        let verdict = if got.allow { "allow" } else { "deny" };
        self.compare_verdict(verdict, &got.reason)?;
        if let Some(class) = self.want_class.filter(|class| !got.allow || *class != got.class) {
            return Err(format!("class {} ({}), want {}", got.class, verdict, class));
        }
        if !self.reason.is_empty() && got.reason != self.reason {
            return Err(format!("the reason is {:?}, want {:?}", got.reason, self.reason));
        }
        Ok(())
    }
}

/// Whether an object is a sample; otherwise it is a payload. An error means that it was probably meant as a sample.
fn is_sample(members: &[(String, &str)]) -> Result<bool, String> {
    let has = |name: &str| members.iter().any(|(n, _)| n == name);
    // data and at are those of a recording.
    let known = |name: &str| {
        matches!(
            name,
            "at" | "audience"
                | "class"
                | "clock"
                | "data"
                | "emits"
                | "group"
                | "hook"
                | "output"
                | "output_text"
                | "payload"
                | "position"
                | "reason"
                | "sent"
                | "source"
                | "text"
                | "user"
                | "verdict"
                | "want_class"
        )
    };
    let input = has("text") || has("user") || has("data");
    if has("payload") || has("hook") || input && (has("group") || members.iter().all(|(n, _)| known(n))) {
        return Ok(true);
    }
    match ["verdict", "output_text", "emits", "want_class"].iter().find(|name| has(name)) {
        Some(name) => Err(format!("a sample with {:?}, but without input; add payload, text, user or hook", name)),
        None => Ok(false),
    }
}

/// Whether a line stands for events that a recording lacks.
fn is_gap(line: &str) -> bool {
    let members = members(line).unwrap_or_default();
    members.iter().any(|(name, _)| name == "dropped")
        && members.iter().all(|(name, _)| matches!(name.as_str(), "at" | "group" | "dropped"))
}

/// Compares JSON texts without the space between tokens.
fn same(want: &str, got: &str) -> bool {
    want == got || compact(want) == compact(got)
}

/// Removes the white space outside of strings.
fn compact(text: &str) -> Cow<'_, [u8]> {
    let b = text.as_bytes();
    let mut out = Vec::with_capacity(b.len());
    let mut i = 0;
    while i < b.len() {
        let end = if b[i] == b'"' { skip_string(b, i) } else { Some(i + 1) };
        match end {
            None => return b.into(),
            Some(end) if !space(b[i]) => out.extend_from_slice(&b[i..end]),
            _ => {}
        }
        i = end.unwrap_or(b.len());
    }
    out.into()
}

/// Splits an object into names and values. The values may be no JSON, such as NaN. Any other text gives None.
fn members(text: &str) -> Option<Vec<(String, &str)>> {
    let b = text.as_bytes();
    let mut i = skip_space(b, 0);
    if *b.get(i)? != b'{' || skip_space(b, skip_value(b, i)?) != b.len() {
        return None;
    }
    i = skip_space(b, i + 1);
    let mut list = Vec::new();
    if *b.get(i)? == b'}' {
        return Some(list);
    }
    loop {
        i = skip_space(b, i);
        if *b.get(i)? != b'"' {
            return None;
        }
        let end = skip_string(b, i)?;
        let name = String::from_utf8(decoded(&b[i..end]).into()).ok()?;
        i = skip_space(b, end);
        if *b.get(i)? != b':' {
            return None;
        }
        let start = skip_space(b, i + 1);
        i = skip_value(b, start)?;
        list.push((name, text.get(start..i).filter(|value| !value.is_empty())?));
        i = skip_space(b, i);
        match b.get(i)? {
            b',' => i += 1,
            b'}' => return Some(list),
            _ => return None,
        }
    }
}

fn string(value: &str) -> Result<String, String> {
    if !value.starts_with('"') {
        return Err("use a string".into());
    }
    String::from_utf8(decoded(value.as_bytes()).into()).map_err(|e| e.to_string())
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("invalid number {}", value))
}

/// A mask of classes: a number, -1 for all classes, or text such as "0x6".
fn audience(value: &str) -> Result<u64, String> {
    let text = value.trim_matches('"');
    match text.strip_prefix("0x") {
        _ if text == "-1" => Ok(EVERYBODY),
        Some(hex) => u64::from_str_radix(hex, 16).map_err(|e| e.to_string()),
        None => number(text),
    }
}

fn emits(list: &str) -> Result<Vec<Emits>, String> {
    let mut all = Vec::new();
    for i in 0.. {
        let value = match find(list.as_bytes(), &i.to_string()) {
            None => break,
            Some(range) => &list[range],
        };
        let mut e = Emits::default();
        for (name, value) in members(value).ok_or("use a list of objects")? {
            match name.as_str() {
                "group" => e.group = string(value)?,
                "payload" => e.payload = Some(value.into()),
                "text" => e.payload = Some(string(value)?),
                "audience" => e.audience = Some(audience(value)?),
                "position" => e.position = Some(string(value)?),
                _ => return Err(format!("unknown member {}; use group, payload, text, audience, position", name)),
            }
        }
        all.push(e);
    }
    Ok(all)
}

/// A time in Unix milliseconds: RFC 3339 text, or a number.
fn time(value: &str) -> Result<i64, String> {
    if !value.starts_with('"') {
        return number::<f64>(value).map(|ms| ms as i64);
    }
    let text = string(value)?;
    rfc3339(&text).ok_or(format!("invalid time {}; use RFC 3339, such as \"2026-01-02T15:04:05Z\"", value))
}

fn rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let clock = rest.strip_prefix('T').or_else(|| rest.strip_prefix('t'))?;
    let zone = clock.find(&['Z', 'z', '+', '-'][..])?;
    let (clock, zone) = clock.split_at(zone);
    let numbers = |s: &str, by| s.split(by).map(|n| n.parse().ok()).collect::<Option<Vec<i64>>>();
    let date = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let clock = numbers(clock, ':')?;
    let offset = match &zone[1..] {
        "" => vec![0, 0],
        zone => numbers(zone, ':')?,
    };
    let fraction: i64 = format!("{:0<3.3}", fraction).parse().ok()?;
    if date.len() != 3 || clock.len() != 3 || offset.len() != 2 || !(1..=12).contains(&date[1]) {
        return None;
    }
    // Days since 1970-01-01, in years that begin in March.
    let year = date[0] - i64::from(date[1] < 3);
    let day = (153 * ((date[1] + 9) % 12) + 2) / 5 + date[2] - 1;
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day - 719_468;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let minutes = days * 1440 + clock[0] * 60 + clock[1] - sign * (offset[0] * 60 + offset[1]);
    Some((minutes * 60 + clock[2]) * 1000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (value, ms) in [
            ("\"1970-01-01T00:00:00Z\"", 0),
            ("\"1970-01-02T00:00:00.25Z\"", 86_400_250),
            ("\"2026-01-02T03:04:05Z\"", 1_767_323_045_000),
            ("\"2026-01-02T05:04:05.1234+02:00\"", 1_767_323_045_123),
            ("\"2024-02-29T23:59:59-00:30\"", 1_709_252_999_000),
            ("1767323045000", 1_767_323_045_000),
        ] {
            assert_eq!(time(value), Ok(ms), "{}", value);
        }
        for value in ["\"yesterday\"", "\"2026-13-01T00:00:00Z\"", "\"2026-01-02T03:04Z\"", "true"] {
            assert!(time(value).is_err(), "{}", value);
        }
    }

    #[test]
    fn no_line_panics() {
        for line in [
            "{\"hook\":[}}",
            "{\"text\":\"a\",\"sent\":}",
            "{",
            "\"",
            "{\"a\"",
            "{\"a\":\"}",
            "é",
            "{\"emits\":[1],\"hook\":\"\"}",
        ] {
            let _ = Sample::parse(line);
        }
    }
}

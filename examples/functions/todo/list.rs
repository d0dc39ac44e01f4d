//! The list as the store has it: a line with the version and the next id, and then a line for each item.
use edgerelay::quote;
use std::fmt;

/// Bounds of a list: at 4 bytes a character, it stays below the 64 KiB of a value in the store.
const ITEMS_MAX: usize = 150;
const TEXT_MAX: usize = 100;

/// A change of a list, which travels as the context of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add(String),
    Check(u32),
    Uncheck(u32),
    Remove(u32),
}

impl Change {
    /// Adds an item with a text of one line, unless the text is empty or too long.
    pub fn add(text: &str) -> Option<Change> {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.is_empty() || text.chars().count() > TEXT_MAX {
            return None;
        }
        Some(Change::Add(text))
    }

    /// Reads what `to_string` wrote.
    pub fn parse(text: &str) -> Option<Change> {
        let (kind, rest) = text.split_once(' ')?;
        match (kind, rest.parse()) {
            ("add", _) => Change::add(rest),
            ("check", Ok(id)) => Some(Change::Check(id)),
            ("uncheck", Ok(id)) => Some(Change::Uncheck(id)),
            ("remove", Ok(id)) => Some(Change::Remove(id)),
            _ => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Change::Add(text) => write!(f, "add {}", text),
            Change::Check(id) => write!(f, "check {}", id),
            Change::Uncheck(id) => write!(f, "uncheck {}", id),
            Change::Remove(id) => write!(f, "remove {}", id),
        }
    }
}

struct Item {
    id: u32,
    checked: bool,
    text: String,
}

/// A to-do list.
#[derive(Default)]
pub struct List {
    version: u64,
    next: u32,
    items: Vec<Item>,
}

impl List {
    /// Reads what `to_string` wrote. Lines that are not an item are left out.
    pub fn parse(text: &str) -> List {
        let mut lines = text.lines();
        let (version, next) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
        let items = lines.filter_map(|line| {
            let mut parts = line.splitn(3, ' ');
            let (id, checked, text) = (parts.next()?.parse().ok()?, parts.next()? == "x", parts.next()?.to_string());
            Some(Item { id, checked, text })
        });
        List { version: version.parse().unwrap_or(0), next: next.parse().unwrap_or(1), items: items.collect() }
    }

    /// Makes a change, or returns why it is impossible. A change of an item that is gone has no effect.
    pub fn apply(&mut self, change: &Change) -> Result<(), &'static str> {
        match change {
            Change::Add(_) if self.items.len() >= ITEMS_MAX => return Err("the list is full; remove items"),
            Change::Add(text) => {
                self.items.push(Item { id: self.next, checked: false, text: text.clone() });
                self.next += 1;
            }
            Change::Check(id) => self.check(*id, true),
            Change::Uncheck(id) => self.check(*id, false),
            Change::Remove(id) => self.items.retain(|item| item.id != *id),
        }
        self.version += 1;
        Ok(())
    }

    fn check(&mut self, id: u32, checked: bool) {
        if let Some(item) = self.items.iter_mut().find(|item| item.id == id) {
            item.checked = checked;
        }
    }

    /// The list for pages.
    pub fn json(&self) -> String {
        let items: Vec<String> = self
            .items
            .iter()
            .map(|i| format!(r#"{{"id":{},"checked":{},"text":{}}}"#, i.id, i.checked, quote(&i.text)))
            .collect();
        format!(r#"{{"version":{},"items":[{}]}}"#, self.version, items.join(","))
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{} {}", self.version, self.next)?;
        self.items.iter().try_for_each(|i| writeln!(f, "{} {} {}", i.id, if i.checked { "x" } else { "-" }, i.text))
    }
}

//! Edits of a payload by path.
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use crate::path::*;
use crate::{host, Event, Verdict};

/// The state of an event's edits.
#[derive(Default)]
pub(crate) struct Edits {
    /// The payload after edits, if there were any.
    text: Option<Vec<u8>>,
    splices: Vec<Splice>,
    /// Whether `splices` lacks an edit.
    lost: bool,
}

/// An edit, recorded so that the relay's search in the original payload also serves the edited text.
struct Splice {
    path: String,
    /// In the payload as it arrived.
    at: usize,
    /// Of the text, in bytes.
    growth: isize,
    /// Whether a value went, which moves the positions of an array's elements.
    removed: bool,
}

/// How many edits are recorded. With more of them, the plugin searches the edited text.
const MAX_SPLICES: usize = 32;

/// The range of a value in the edited text, and in the payload as it arrived, if it is known to be there.
struct Place {
    range: Range<usize>,
    origin: Option<Range<usize>>,
}

/// Edits change the payload by path without decoding it. Each edit works on the result of the edits before it, and
/// [`Event::edited`] returns the verdict at the end:
///
/// ```
/// # fn hook(e: &mut edgerelay::Event) -> edgerelay::Verdict {
/// e.set_string("event_data.res.stdout", "hidden");
/// e.remove("event_data.res.diff");
/// e.edited()
/// # }
/// ```
///
/// `payload` and the methods that read it stay as they are: the first edit makes a copy. An edit that cannot be made
/// changes nothing and returns false. The empty path is the whole payload, which edits refuse. If a member occurs twice,
/// an edit changes the first occurrence, which paths name, while browsers show the last one: `while e.remove(path) {}`
/// removes all of them.
impl Event<'_> {
    /// Replaces the value at `path` by `value`, JSON text. If the value is missing and its parent is an object, the
    /// member is appended; an array gets no new element. A value that is not one JSON value is refused.
    pub fn set(&mut self, path: &str, value: &str) -> bool {
        one_value(value.as_bytes()) && self.put(path, value.as_bytes())
    }

    /// Like [`Event::set`], with a text that becomes a JSON string.
    pub fn set_string(&mut self, path: &str, text: &str) -> bool {
        let mut value = Vec::with_capacity(text.len() + 16);
        push_quoted(&mut value, text);
        self.put(path, &value)
    }

    fn put(&mut self, path: &str, value: &[u8]) -> bool {
        if path.is_empty() {
            return false;
        }
        if let Some(p) = self.locate(path) {
            self.replace(path, p.origin.map(|o| o.start), p.range, b"", value);
            return true;
        }
        let (parent, last) = cut_last(path);
        let p = match self.locate(parent) {
            Some(p) if self.edited_payload()[p.range.start] == b'{' => p,
            _ => return false,
        };
        let end = skip_space_back(self.edited_payload(), p.range.end - 1); // before the closing bracket
        let mut name = Vec::with_capacity(last.len() + 16);
        if end > p.range.start + 1 {
            name.push(b',');
        }
        push_quoted(&mut name, &cut_name(last).0);
        name.push(b':');
        self.replace(path, p.origin.map(|o| o.end - 1), end..end, &name, value);
        true
    }

    /// Removes the member or the array element at `path`, and its comma. A member may occur twice:
    /// `while e.remove(path) {}` removes all occurrences.
    pub fn remove(&mut self, path: &str) -> bool {
        if path.is_empty() {
            return false;
        }
        let p = match self.locate(path) {
            Some(p) => p,
            None => return false,
        };
        let doc = self.edited_payload();
        let Range { mut start, mut end } = p.range;
        match member_name(doc, start) {
            Name::None => {}
            Name::At(name) => start = name.start,
            Name::Broken => return false,
        }
        let (before, next) = (skip_space_back(doc, start), skip_space(doc, end));
        if before == 0 || next >= doc.len() {
            return false; // not JSON
        }
        if doc[next] == b',' {
            end = skip_space(doc, next + 1);
        } else if doc[before - 1] == b',' {
            start = before - 1;
        } else {
            start = before;
            end = next;
        }
        self.replace(path, p.origin.map(|o| o.start), start..end, b"", b"");
        true
    }

    /// Gives the member at `path` another name, and keeps its value. A name that the object has already and an element of
    /// an array are refused.
    pub fn rename(&mut self, path: &str, name: &str) -> bool {
        if path.is_empty() {
            return false;
        }
        let p = match self.locate(path) {
            Some(p) => p,
            None => return false,
        };
        let range = match member_name(self.edited_payload(), p.range.start) {
            Name::At(range) => range,
            _ => return false,
        };
        let mut renamed = cut_last(path).0.to_string();
        push_name(&mut renamed, name);
        renamed.push('.');
        if self.locate(&renamed).is_some() {
            return false;
        }
        let mut quoted = Vec::with_capacity(name.len() + 16);
        push_quoted(&mut quoted, name);
        let at = p.origin.map(|o| o.start);
        self.replace(path, at, range, &quoted, b"");
        self.record(renamed, at, 0, false);
        true
    }

    /// The verdict after edits: a replacement, or [`Verdict::Pass`] if no edit changed anything. Call it last: it takes
    /// the edited text, and the event is then as it arrived.
    pub fn edited(&mut self) -> Verdict {
        match core::mem::take(&mut self.edits).text {
            Some(text) => Verdict::Replace(text),
            None => Verdict::Pass,
        }
    }

    /// The payload after the edits so far.
    pub fn edited_payload(&self) -> &[u8] {
        self.edits.text.as_deref().unwrap_or(self.payload)
    }

    /// Makes the next edits search the edited text, for tests of that search.
    #[cfg(test)]
    pub(crate) fn search_alone(&mut self) {
        self.edits.lost = true;
    }

    /// The position of the value at `path` in the edited text. The relay searches, which is faster, and the position is
    /// moved by what the edits before added and removed. The plugin itself searches for a path that an edit may have
    /// changed.
    fn locate(&self, path: &str) -> Option<Place> {
        let doc = self.edited_payload();
        // The relay does not know a text that the plugin has put in place of the payload.
        let unknown = self.edits.text.is_none() && self.arrived != (self.payload.as_ptr(), self.payload.len());
        if self.edits.lost || unknown || self.edits.splices.iter().any(|s| overlaps(&s.path, path, s.removed)) {
            return find(doc, path).map(|range| Place { range, origin: None });
        }
        let origin = host::find(path)?;
        let moved = |to: usize| {
            let growth: isize = self.edits.splices.iter().filter(|s| s.at < to).map(|s| s.growth).sum();
            to as isize + growth
        };
        let (from, to) = (moved(origin.start), moved(origin.end));
        // On a text that is not JSON, the result is some value or none.
        if 0 <= from && from < to && to as usize <= doc.len() {
            Some(Place { range: from as usize..to as usize, origin: Some(origin) })
        } else {
            None
        }
    }

    /// Replaces a range of the text by `head` and `tail`: an edit of `path`. `at` is the place in the payload as it
    /// arrived.
    fn replace(&mut self, path: &str, at: Option<usize>, range: Range<usize>, head: &[u8], tail: &[u8]) {
        let added = head.len() + tail.len();
        let growth = added as isize - range.len() as isize;
        match &mut self.edits.text {
            Some(text) => {
                let (old, end) = (text.len(), range.start + added);
                let new = old + added - range.len();
                if new > old {
                    text.resize(new, 0);
                }
                text.copy_within(range.end..old, end);
                text.truncate(new);
                text[range.start..range.start + head.len()].copy_from_slice(head);
                text[range.start + head.len()..end].copy_from_slice(tail);
            }
            None => {
                let old: &[u8] = self.payload;
                let mut text = Vec::with_capacity(old.len() + added + old.len() / 8 + 64);
                text.extend_from_slice(&old[..range.start]);
                text.extend_from_slice(head);
                text.extend_from_slice(tail);
                text.extend_from_slice(&old[range.end..]);
                self.edits.text = Some(text);
            }
        }
        self.record(path.to_string(), at, growth, added == 0);
    }

    fn record(&mut self, path: String, at: Option<usize>, growth: isize, removed: bool) {
        match at {
            Some(at) if self.edits.splices.len() < MAX_SPLICES => {
                self.edits.splices.push(Splice { path, at, growth, removed });
            }
            _ => self.edits.lost = true,
        }
    }
}

/// Whether an edit of the value at `edited` may change the value at `path`: with `removed`, the other elements of an
/// array, too.
fn overlaps(mut edited: &str, mut path: &str, removed: bool) -> bool {
    loop {
        if edited.is_empty() {
            return true;
        }
        if path.is_empty() {
            return false;
        }
        let (a, rest) = cut_name(edited);
        edited = rest;
        let (b, rest) = cut_name(path);
        path = rest;
        if a != b {
            let digits = |s: &str| s.bytes().all(|c| c.is_ascii_digit());
            return digits(&a) && digits(&b) && (removed || a.trim_start_matches('0') == b.trim_start_matches('0'));
        }
    }
}

/// The name of a value.
enum Name {
    /// An element of an array.
    None,
    /// The range of the name, quotes included.
    At(Range<usize>),
    /// The text is not JSON.
    Broken,
}

/// The name of the value that begins at `i`.
fn member_name(doc: &[u8], i: usize) -> Name {
    let colon = skip_space_back(doc, i);
    if colon == 0 || doc[colon - 1] != b':' {
        return Name::None;
    }
    let end = skip_space_back(doc, colon - 1);
    if end == 0 || doc[end - 1] != b'"' {
        return Name::Broken;
    }
    let mut i = end - 1;
    while i > 0 {
        i -= 1;
        if doc[i] != b'"' {
            continue;
        }
        // The quote is escaped if an odd number of backslashes stands before it.
        let n = doc[..i].iter().rev().take_while(|&&b| b == b'\\').count();
        if n % 2 == 0 {
            return Name::At(i..end);
        }
        i -= n;
    }
    Name::Broken
}

//! Finds values in JSON text by path, as the relay does.
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

/// The position of the value at `path`. The rest of the text is skipped and not validated.
pub(crate) fn find(doc: &[u8], mut path: &str) -> Option<Range<usize>> {
    let mut i = skip_space(doc, 0);
    while !path.is_empty() {
        let (name, rest) = cut_name(path);
        path = rest;
        i = match doc.get(i)? {
            b'{' => find_member(doc, i + 1, name.as_bytes())?,
            b'[' => find_element(doc, i + 1, name.as_bytes())?,
            _ => return None,
        };
    }
    let end = skip_value(doc, i)?;
    if end > i {
        Some(i..end)
    } else {
        None
    }
}

/// Splits off the first name of a path. A backslash escapes the next character.
pub(crate) fn cut_name(path: &str) -> (Cow<'_, str>, &str) {
    match path.bytes().position(|b| b == b'.' || b == b'\\') {
        None => (path.into(), ""),
        Some(i) if path.as_bytes()[i] == b'.' => (path[..i].into(), &path[i + 1..]),
        _ => cut_escaped(path),
    }
}

fn cut_escaped(path: &str) -> (Cow<'_, str>, &str) {
    let mut name = String::with_capacity(path.len());
    let mut chars = path.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '.' => return (name.into(), &path[i + 1..]),
            '\\' => name.push(chars.next().map_or('\\', |(_, c)| c)),
            _ => name.push(c),
        }
    }
    (name.into(), "")
}

/// Splits a path before its last name: the parts together are the path, and the first names the container.
pub(crate) fn cut_last(path: &str) -> (&str, &str) {
    let b = path.as_bytes();
    let (mut start, mut i) = (0, 0);
    while i + 1 < b.len() {
        match b[i] {
            b'\\' => i += 1,
            b'.' => start = i + 1,
            _ => {}
        }
        i += 1;
    }
    path.split_at(start)
}

/// Makes a name an element of a path.
pub(crate) fn push_name(path: &mut String, name: &str) {
    for c in name.chars() {
        if c == '.' || c == '\\' {
            path.push('\\');
        }
        path.push(c);
    }
}

pub(crate) fn space(b: u8) -> bool {
    matches!(b, b' ' | b'\n' | b'\t' | b'\r')
}

/// The first position from `i` on that is not white space.
pub(crate) fn skip_space(doc: &[u8], mut i: usize) -> usize {
    while i < doc.len() && space(doc[i]) {
        i += 1;
    }
    i
}

/// The end of the text before `i` without the white space at its end.
pub(crate) fn skip_space_back(doc: &[u8], mut i: usize) -> usize {
    while i > 0 && space(doc[i - 1]) {
        i -= 1;
    }
    i
}

/// The start of the value of `name` in the object whose members begin at `i`.
fn find_member(doc: &[u8], mut i: usize, name: &[u8]) -> Option<usize> {
    loop {
        let start = skip_space(doc, i);
        if *doc.get(start)? != b'"' {
            return None;
        }
        let end = skip_string(doc, start)?;
        i = skip_space(doc, end);
        if *doc.get(i)? != b':' {
            return None;
        }
        i = skip_space(doc, i + 1);
        let key = &doc[start + 1..end - 1];
        // A key with escapes may look like a name and mean another.
        if if key.contains(&b'\\') { unescape(key).as_ref() == name } else { key == name } {
            return Some(i);
        }
        i = skip_comma(doc, skip_value(doc, i)?)?;
    }
}

/// The start of the element at the position that `name` spells.
fn find_element(doc: &[u8], mut i: usize, name: &[u8]) -> Option<usize> {
    if name.is_empty() || name.len() > 9 || !name.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut n = name.iter().fold(0, |n, c| n * 10 + u32::from(c - b'0'));
    loop {
        i = skip_space(doc, i);
        if *doc.get(i)? == b']' {
            return None;
        }
        if n == 0 {
            return Some(i);
        }
        i = skip_comma(doc, skip_value(doc, i)?)?;
        n -= 1;
    }
}

/// The position after the comma that follows a value's end.
fn skip_comma(doc: &[u8], end: usize) -> Option<usize> {
    let i = skip_space(doc, end);
    if doc.get(i) == Some(&b',') {
        Some(i + 1)
    } else {
        None
    }
}

/// The end of the value that begins at `i`.
pub(crate) fn skip_value(doc: &[u8], i: usize) -> Option<usize> {
    match doc.get(i)? {
        b'"' => skip_string(doc, i),
        b'{' | b'[' => skip_container(doc, i),
        b',' | b':' | b'}' | b']' => None,
        _ => {
            let ends = |&b: &u8| b == b',' || b == b'}' || b == b']' || b <= b' ';
            Some(doc[i..].iter().position(ends).map_or(doc.len(), |n| i + n))
        }
    }
}

/// The end of the object or array that begins at `i`. It does not recurse, so deep nesting costs no stack.
fn skip_container(doc: &[u8], mut i: usize) -> Option<usize> {
    let mut depth = 0;
    loop {
        match doc.get(i)? {
            b'"' => {
                i = skip_string(doc, i)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(i + 1);
                }
            }
            _ => {}
        }
        i += 1;
    }
}

/// The end of the string that begins at `i`.
pub(crate) fn skip_string(doc: &[u8], mut i: usize) -> Option<usize> {
    loop {
        i += 1;
        match doc.get(i)? {
            b'"' => return Some(i + 1),
            b'\\' => i += 1,
            _ => {}
        }
    }
}

/// Decodes the inside of a string. A text with an invalid escape stays as it is, as in the relay.
pub(crate) fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        let c = text[i];
        if c < b' ' || c == b'"' {
            return text.into();
        }
        if c != b'\\' {
            out.push(c);
            i += 1;
            continue;
        }
        let simple = match text.get(i + 1) {
            Some(c @ (b'"' | b'\\' | b'/')) => *c,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            _ => {
                let unit = match code_unit(&text[i..]) {
                    Some(unit) => unit,
                    None => return text.into(),
                };
                i += 6;
                let mut c = char::from_u32(unit);
                if let (0xd800..=0xdbff, Some(low @ 0xdc00..=0xdfff)) = (unit, text.get(i..).and_then(code_unit)) {
                    c = char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00));
                    i += 6;
                }
                let mut utf8 = [0; 4];
                out.extend_from_slice(c.unwrap_or(char::REPLACEMENT_CHARACTER).encode_utf8(&mut utf8).as_bytes());
                continue;
            }
        };
        out.push(simple);
        i += 2;
    }
    out.into()
}

/// The number of an escape such as \u00e9 that the text begins with.
fn code_unit(text: &[u8]) -> Option<u32> {
    if !text.starts_with(b"\\u") || text.len() < 6 {
        return None;
    }
    text[2..6].iter().try_fold(0, |n, &c| Some(n << 4 | (c as char).to_digit(16)?))
}

/// Appends a text as a JSON string.
pub(crate) fn push_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let b = text.as_bytes();
    let mut from = 0;
    for (i, &c) in b.iter().enumerate() {
        if c >= b' ' && c != b'"' && c != b'\\' {
            continue;
        }
        out.extend_from_slice(&b[from..i]);
        from = i + 1;
        let letter = match c {
            8 => b'b',
            12 => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            b'"' | b'\\' => c,
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[DIGITS[usize::from(c >> 4)], DIGITS[usize::from(c & 15)]]);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', letter]);
    }
    out.extend_from_slice(&b[from..]);
    out.push(b'"');
}

/// Whether text consists of one JSON value, without validating the value's inside.
pub(crate) fn one_value(text: &[u8]) -> bool {
    let start = skip_space(text, 0);
    match skip_value(text, start) {
        Some(end) if end > start && skip_space(text, end) == text.len() => {
            matches!(text[start], b'"' | b'{' | b'[')
                || text[start..end].iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'))
        }
        _ => false,
    }
}

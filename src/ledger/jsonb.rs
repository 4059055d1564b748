//! The binary form of a `jsonb` that is a list of flat objects, as `jsonb_in` makes it: what every movement
//! keeps of the grants that paid, without a text in between.

const ARRAY: u32 = 0x4000_0000;
const OBJECT: u32 = 0x2000_0000;

const TEXT: u32 = 0;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
/// An entry says where it ends rather than how long it is; every 32nd does, the first included.
const IS_END: u32 = 0x8000_0000;
const STRIDE: usize = 32;

/// Members of an object, `None` is null: in the order of a jsonb, shorter keys first.
pub type Members<'a> = [(&'a str, Option<&'a str>)];

/// A list that is being made.
#[derive(Default)]
pub struct List {
    /// The objects, each from a multiple of four on.
    objects: Vec<u8>,
    ends: Vec<usize>,
}

impl List {
    pub fn push(&mut self, members: &Members) {
        let bytes = &mut self.objects;
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        put(bytes, members.len() as u32 | OBJECT);
        let mut entries = Entries::new(bytes, 2 * members.len());
        for (key, _) in members {
            let start = bytes.len();
            bytes.extend_from_slice(key.as_bytes());
            entries.put(bytes, TEXT, start);
        }
        for (_, value) in members {
            let start = bytes.len();
            bytes.extend_from_slice(value.unwrap_or_default().as_bytes());
            entries.put(bytes, if value.is_some() { TEXT } else { NULL }, start);
        }
        self.ends.push(self.objects.len());
    }

    /// The bytes of the jsonb without the length before them.
    pub fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(4 + 4 * self.ends.len() + self.objects.len());
        put(&mut bytes, self.ends.len() as u32 | ARRAY);
        let mut start = 0;
        for (nth, end) in self.ends.iter().enumerate() {
            put(&mut bytes, entry(nth, CONTAINER, end - start, *end));
            start = *end;
        }
        bytes.extend_from_slice(&self.objects);
        bytes
    }
}

/// The entry of the part at this place: of which kind and how long it is, or where it ends.
fn entry(nth: usize, kind: u32, length: usize, end: usize) -> u32 {
    match nth % STRIDE {
        0 => kind | IS_END | end as u32,
        _ => kind | length as u32,
    }
}

fn put(bytes: &mut Vec<u8>, word: u32) {
    bytes.extend_from_slice(&word.to_ne_bytes());
}

/// The entries of a container, which come before what they describe.
struct Entries {
    at: usize,
    count: usize,
    length: usize,
}

impl Entries {
    /// Makes room for `more` bytes.
    fn new(bytes: &mut Vec<u8>, count: usize) -> Entries {
        let at = bytes.len();
        bytes.resize(at + 4 * count, 0);
        Entries {
            at,
            count: 0,
            length: 0,
        }
    }

    /// The next one describes the bytes from `start` on.
    fn put(&mut self, bytes: &mut [u8], kind: u32, start: usize) {
        let length = bytes.len() - start;
        self.length += length;
        let word = entry(self.count, kind, length, self.length);
        let at = self.at + 4 * self.count;
        if let Some(entry) = bytes.get_mut(at..at + 4) {
            entry.copy_from_slice(&word.to_ne_bytes());
        }
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_as_postgres_has_it() {
        let mut list = List::default();
        list.push(&[("a", Some("xy")), ("bcd", None)]);
        list.push(&[("a", Some(""))]);
        let mut expected = Vec::new();
        for word in [0x4000_0002, 0xD000_001A, 0x5000_0012, 0x2000_0002] {
            put(&mut expected, word);
        }
        for word in [0x8000_0001, 3, 2, 0x4000_0000] {
            put(&mut expected, word);
        }
        expected.extend_from_slice(b"abcdxy\0\0");
        for word in [0x2000_0001, 0x8000_0001, 0] {
            put(&mut expected, word);
        }
        expected.extend_from_slice(b"a");
        // The second object is as long as it is with the padding before it.
        expected[8..12].copy_from_slice(&0x5000_000F_u32.to_ne_bytes());
        assert_eq!(list.finish(), expected);
    }
}

//! The checksum that tells a damaged row from a sound one.

use crc32fast::Hasher;

/// What is sent, as it stands in the table. Not the expiry: it is a stamp of the clock, not something said, and a retry
/// takes it off, which must not take the checksum off a row that is damaged.
pub(super) struct Parts<'a> {
    pub topic: &'a str,
    pub key: Option<&'a str>,
    /// The JSON text.
    pub headers: Option<&'a str>,
    /// Text and bytes alike: what counts is what goes over the wire.
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub content_type: Option<&'a str>,
    pub response_topic: Option<&'a str>,
    pub correlation_data: Option<&'a [u8]>,
}

impl Parts<'_> {
    /// CRC-32 over all of it. Each part is led by its presence and length, so that a byte that moved from one part
    /// into the next is noticed. Part of the file format: it never changes for version 1 of the table.
    pub fn checksum(&self) -> u32 {
        let mut hasher = Hasher::new();
        let mut add = |part: Option<&[u8]>| {
            hasher.update(&[u8::from(part.is_some())]);
            let bytes = part.unwrap_or_default();
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(Some(self.topic.as_bytes()));
        add(self.key.map(str::as_bytes));
        add(self.headers.map(str::as_bytes));
        add(Some(self.payload));
        add(Some(&[self.qos, u8::from(self.retain)]));
        add(self.content_type.map(str::as_bytes));
        // Most messages have neither, and their sum is made of what they have.
        if self.response_topic.is_some() || self.correlation_data.is_some() {
            add(self.response_topic.map(str::as_bytes));
            add(self.correlation_data);
        }
        hasher.finalize()
    }
}

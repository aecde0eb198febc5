//! What is full when an outbox takes no more, and by how much.

use std::fmt;

/// Why [`Outbox::enqueue`](crate::Outbox::enqueue) took no message: the outbox has as much as it may have. Nothing was
/// written, and there is room again when messages have been sent, or others have freed space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Full {
    /// What is full.
    pub limit: Limit,
    /// How much there is: messages or bytes that are pending, or bytes that are free.
    pub found: u64,
    /// How much there may be, or of free space must be: the setting, or what [`Limit::FreeSpace`] says.
    pub allowed: u64,
    /// What this message would have added: 1 message, or its bytes. If that alone is more than `allowed` pending, it will
    /// never fit.
    pub wanted: u64,
}

/// What an outbox can be full of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// [`Settings::max_pending`](crate::Settings::max_pending), in messages.
    PendingMessages,
    /// [`Settings::max_pending_bytes`](crate::Settings::max_pending_bytes), in bytes.
    PendingBytes,
    /// [`Settings::keep_free`](crate::Settings::keep_free), in bytes of the file system that the database stands on; or
    /// more, as long as the write-ahead log is longer than that and the [reserve](crate::Settings::reserve), for the
    /// log has to be moved into the database some time.
    FreeSpace,
    /// [`Settings::reserve`](crate::Settings::reserve), in bytes: the disk was full to the last byte, and the reserve
    /// was given up so that what is in the outbox can be sent; or there never was space for it. New messages are taken
    /// when it is whole.
    Reserve,
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Full { limit, found, allowed, wanted } = self;
        match limit {
            Limit::PendingMessages => {
                write!(f, "{found} messages are pending, and the setting max_pending allows {allowed}")
            }
            Limit::PendingBytes => write!(
                f,
                "{found} bytes are pending, this message has {wanted}, and the setting max_pending_bytes allows {allowed}"
            ),
            Limit::FreeSpace => write!(
                f,
                "{found} bytes of the disk are free, this message has {wanted}, and {allowed} are kept free, for others (the \
                 setting keep_free) or for the log to be moved into the database"
            ),
            Limit::Reserve => write!(
                f,
                "of the reserve of {allowed} bytes (the setting reserve) {found} are there: it is made again when what is in \
                 the outbox is sent, or others free space on the disk"
            ),
        }
    }
}

//! What cannot be brought about through the public API.

//! Frames: what goes over the channels.

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 44;

/// Bytes of a frame's payload: as much as makes the cost of a message small beside its content.
pub const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the longest frame.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;

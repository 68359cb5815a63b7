//! Wire protocols: bytes to calls and back. Nothing here knows of sockets, files, clocks or tasks,
//! so every rule is tested with bytes alone. Bytes of a peer are never trusted: what they claim is
//! checked against a limit and against what has arrived before anything is allocated for it.

pub mod avro;
mod zlib;

pub use zlib::{Deflater, Inflater, ZlibError};

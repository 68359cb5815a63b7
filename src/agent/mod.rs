//! (filled in by its first component)

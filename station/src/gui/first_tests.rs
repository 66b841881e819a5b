//! The guide as people meet it.

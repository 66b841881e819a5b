//! `station.toml`: fixtures, paths, names; the readable source of truth.

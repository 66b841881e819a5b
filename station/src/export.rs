//! Export: canonical CSV and JSON Lines, encrypted with age, signed with Ed25519.

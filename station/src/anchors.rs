//! The anchors: root, regions, agent certificate; HKDF-derived Ed25519 seeds (seed 000, PROTOCOL §6).

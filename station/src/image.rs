//! The common image: reading and refusing it before a board is touched.

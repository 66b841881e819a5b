//! Secrets at rest: the station key and the sealing of rows and files.

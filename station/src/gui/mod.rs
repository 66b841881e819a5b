//! The window (egui): reads snapshots, emits commands.

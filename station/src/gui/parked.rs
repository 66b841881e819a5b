//! A line and a desk that only show what was last seen of others: what the window holds while the host opens a station.

use crate::desk::{self, DeskHandle, Handles};
use crate::line::{self, LineHandle};
use std::sync::Arc;

struct Parked<T>(Arc<T>);

impl LineHandle for Parked<line::Snapshot> {
    fn send(&self, _: line::Command) {}

    fn snapshot(&self) -> Arc<line::Snapshot> {
        self.0.clone()
    }

    fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

impl DeskHandle for Parked<desk::Snapshot> {
    fn send(&self, _: desk::Command) {}

    fn snapshot(&self) -> Arc<desk::Snapshot> {
        self.0.clone()
    }

    fn on_change(&self, _: Box<dyn Fn() + Send + Sync>) {}
}

/// Handles that show this and do nothing.
pub(super) fn handles(line: Arc<line::Snapshot>, desk: Arc<desk::Snapshot>) -> Handles {
    (Box::new(Parked(line)), Box::new(Parked(desk)))
}

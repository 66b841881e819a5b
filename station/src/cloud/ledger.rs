//! What each unit's identities at one platform ought to be: *old | both | new*, as pure decisions, kept in a journal.
//!
//! ```text
//! {} –stage(g)→ {g staged} –commit(g)→ {g} –stage(h>g)→ {g, h staged} –commit(h), or a login with h→ {h}
//!                                                                     └─withdraw(h)→ {g}
//! ```
//! Invariants:
//! - A generation is staged only above every generation ever staged; `highest` never falls, so nothing returns.
//! - At most one generation is staged (I10), at most two are let in (I2).
//! - A commit counts only for the highest generation; a stale one changes nothing.
//! - The journal is written and synced before the broker is told (write-ahead), so after a crash the ledger knows at
//!   least as much as the broker and can bring it into line. What the broker has confirmed is noted afterwards,
//!   without a sync: losing that note costs one repeated, idempotent command.
//!
//! Journal: one line per changed unit, `<16 hex digits of SHA-256> <JSON>`, the whole standing of the unit, last line
//! wins. A torn last line is a write that never finished and is cut off; damage anywhere else is refused.

use super::credential::{Credential, Identity, Verifier};
use super::error::CloudError;
use crate::model::UnitId;
use keywright_protocol::crypto;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where one identity stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    /// Let in; its unit has not confirmed it.
    Staged,
    /// Let in; the confirmed one.
    Active,
    /// Not to be let in any more; the broker has not confirmed that yet.
    Leaving,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    phase: Phase,
    verifier: Verifier,
    /// The broker has said that it has this identity.
    confirmed: bool,
}

/// One unit at one platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The highest generation ever staged here; 0 = none.
    highest: u32,
    /// An operator lets no identity of the unit in.
    blocked: bool,
    /// The broker has not confirmed the latest change.
    pending: bool,
    identities: BTreeMap<u32, Entry>,
}

impl Standing {
    /// The highest generation ever staged here; 0 = none.
    pub fn highest(&self) -> u32 {
        self.highest
    }

    /// True if an operator blocked the unit.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// True if the broker has not confirmed the latest change yet.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    /// The generation that waits for its unit's confirmation.
    pub fn staged(&self) -> Option<u32> {
        self.in_phase(Phase::Staged)
    }

    /// The confirmed generation.
    pub fn active(&self) -> Option<u32> {
        self.in_phase(Phase::Active)
    }

    /// Every generation that the unit may log in with, were it not blocked.
    pub fn enabled(&self) -> impl Iterator<Item = u32> + '_ {
        self.enabled_with_verifiers().map(|(generation, _)| generation)
    }

    pub(super) fn enabled_with_verifiers(&self) -> impl Iterator<Item = (u32, Verifier)> + '_ {
        self.identities.iter().filter(|(_, e)| e.phase != Phase::Leaving).map(|(g, e)| (*g, e.verifier))
    }

    /// Whether the broker has said that it has this generation.
    pub(super) fn is_confirmed(&self, generation: u32) -> bool {
        self.identities.get(&generation).is_some_and(|e| e.confirmed)
    }

    /// The broker has lost these generations: nothing may rest on them until they are staged again.
    pub(super) fn without(&self, lost: impl Fn(u32) -> bool) -> Self {
        let mut next = self.clone();
        for (generation, entry) in &mut next.identities {
            if lost(*generation) {
                entry.confirmed = false;
                next.pending = true;
            }
        }
        next
    }

    fn in_phase(&self, phase: Phase) -> Option<u32> {
        self.identities.iter().find(|(_, e)| e.phase == phase).map(|(g, _)| *g)
    }

    fn leave(&mut self, generation: u32) {
        if let Some(entry) = self.identities.get_mut(&generation) {
            entry.phase = Phase::Leaving;
            self.pending = true;
        }
    }

    /// What must be removed at the broker, and whether the unit has nothing left there.
    fn removals(&self, unit: UnitId) -> Vec<Act> {
        let last = self.enabled().next().is_none();
        let leaving: Vec<u32> =
            self.identities.iter().filter(|(_, e)| e.phase == Phase::Leaving).map(|(g, _)| *g).collect();
        let end = leaving.len();
        let act = |(i, generation)| Act::Remove {
            identity: Identity { unit, generation },
            last: last && i + 1 == end,
        };
        leaving.into_iter().enumerate().map(act).collect()
    }

    /// The broker has done everything asked of it, and has said that it has the generations that `seen` names.
    pub(super) fn settled(&self, seen: impl Fn(u32) -> bool) -> Self {
        let mut next = self.clone();
        next.identities.retain(|_, e| e.phase != Phase::Leaving);
        for (generation, entry) in &mut next.identities {
            entry.confirmed |= seen(*generation);
        }
        next.pending = next.identities.values().any(|e| !e.confirmed);
        next
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// The broker has confirmed the change.
    Applied,
    /// It was so before; the broker has confirmed that.
    AlreadySo,
    /// A commit of a generation that is past: ignored. The unit must not be told that it is active.
    Stale,
    /// A withdrawal of a generation that was committed before it came: ignored. The unit must not be told that it is void.
    Committed,
}

/// One thing that the broker must do. Each may be repeated.
#[derive(Clone, Debug)]
pub enum Act {
    /// Let this identity in.
    Allow {
        /// Who.
        identity: Identity,
        /// What its password must be.
        verifier: Verifier,
        /// The password. Without it the broker can only be asked whether it lets the identity in already.
        credential: Option<Credential>,
    },
    /// Remove it and end its sessions.
    Remove {
        /// Who.
        identity: Identity,
        /// The unit has no identity left.
        last: bool,
    },
    /// Keep it, but let it in no more and end its sessions.
    Suspend {
        /// Who.
        identity: Identity,
    },
    /// Let it in again.
    Resume {
        /// Who.
        identity: Identity,
    },
}

/// What was decided about one request.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub next: Standing,
    pub ack: Ack,
    pub acts: Vec<Act>,
}

/// Stage: beside the confirmed generation, never above an unconfirmed one. Repeating it for a generation that is let
/// in heals a broker that lost it.
pub(super) fn stage(
    now: &Standing,
    identity: Identity,
    credential: &Credential,
) -> Result<Decision, CloudError> {
    let Identity { unit, generation } = identity;
    if generation == 0 {
        return Err(CloudError::Invalid { what: "generation 0".into() });
    }
    if now.blocked {
        return Err(CloudError::Blocked { unit });
    }
    let verifier = credential.verifier(identity);
    let allow = Act::Allow { identity, verifier, credential: Some(credential.clone()) };
    let mut next = now.clone();
    match now.identities.get(&generation) {
        Some(entry) if entry.phase != Phase::Leaving => {
            if entry.verifier != verifier {
                return Err(CloudError::OtherKey { identity });
            }
            next.pending = true;
            Ok(Decision { next, ack: Ack::AlreadySo, acts: vec![allow] })
        }
        _ if generation <= now.highest => Err(CloudError::Past { identity, highest: now.highest }),
        _ => {
            if let Some(staged) = now.staged() {
                return Err(CloudError::Unconfirmed { unit, staged });
            }
            next.highest = generation;
            next.pending = true;
            next.identities.insert(generation, Entry { phase: Phase::Staged, verifier, confirmed: false });
            Ok(Decision { next, ack: Ack::Applied, acts: vec![allow] })
        }
    }
}

/// Commit: the highest staged generation becomes the only one; all others leave. Refused while the broker has not
/// confirmed that it has the new identity: removing the old one then could leave the unit with none.
pub(super) fn commit(now: &Standing, identity: Identity) -> Result<Decision, CloudError> {
    let Identity { unit, generation } = identity;
    if generation > now.highest {
        return Err(CloudError::NotStaged { identity });
    }
    let entry = now.identities.get(&generation);
    let phase = entry.map(|e| e.phase);
    if phase == Some(Phase::Staged) && entry.is_some_and(|e| !e.confirmed) {
        return Err(CloudError::NotStaged { identity });
    }
    let mut next = now.clone();
    let ack = match phase {
        Some(Phase::Staged) if generation == now.highest => {
            let others: Vec<u32> = now.enabled().filter(|g| *g != generation).collect();
            others.into_iter().for_each(|g| next.leave(g));
            if let Some(entry) = next.identities.get_mut(&generation) {
                entry.phase = Phase::Active;
            }
            next.pending = true;
            Ack::Applied
        }
        // Active while something newer is staged is a repeated old commit: true, but it says nothing new.
        Some(Phase::Active) if generation == now.highest => Ack::AlreadySo,
        _ => Ack::Stale,
    };
    let acts = if ack == Ack::Stale { Vec::new() } else { next.removals(unit) };
    Ok(Decision { next, ack, acts })
}

/// A unit logged in. Only the staged generation's login says something, and it proves that the broker has the
/// identity; any other changes nothing (PROTOCOL §4).
pub(super) fn logged_in(now: &Standing, identity: Identity) -> Result<Decision, CloudError> {
    if now.staged() != Some(identity.generation) {
        return Ok(unchanged(now, Ack::AlreadySo));
    }
    let mut proved = now.clone();
    if let Some(entry) = proved.identities.get_mut(&identity.generation) {
        entry.confirmed = true;
    }
    commit(&proved, identity)
}

/// Nothing to do.
pub(super) fn unchanged(now: &Standing, ack: Ack) -> Decision {
    Decision { next: now.clone(), ack, acts: Vec::new() }
}

/// Retire: one generation leaves for good.
pub(super) fn retire(now: &Standing, identity: Identity) -> Result<Decision, CloudError> {
    let Identity { unit, generation } = identity;
    if generation == 0 || generation > now.highest {
        return Err(CloudError::NotStaged { identity });
    }
    let mut next = now.clone();
    let ack = if now.enabled().any(|g| g == generation) {
        next.leave(generation);
        Ack::Applied
    } else {
        Ack::AlreadySo
    };
    let acts = next.removals(unit);
    Ok(Decision { next, ack, acts })
}

/// Withdraw: a staged generation leaves for good, unless it was committed first, by message or by a login. Whoever was told
/// that it is gone may tell the unit to go back to the one before.
pub(super) fn withdraw(now: &Standing, identity: Identity) -> Result<Decision, CloudError> {
    if now.active() == Some(identity.generation) {
        return Ok(unchanged(now, Ack::Committed));
    }
    retire(now, identity)
}

/// Block or unblock: every identity of the unit at once. A unit that was never here can be blocked, too.
pub(super) fn block(now: &Standing, unit: UnitId, blocked: bool) -> Decision {
    let ack = if now.blocked == blocked { Ack::AlreadySo } else { Ack::Applied };
    let mut next = now.clone();
    next.blocked = blocked;
    next.pending = true;
    let acts = now
        .enabled()
        .map(|generation| {
            let identity = Identity { unit, generation };
            if blocked { Act::Suspend { identity } } else { Act::Resume { identity } }
        })
        .collect();
    Decision { next, ack, acts }
}

/// How large a ledger may grow: all that the disk gives, unless somebody makes it less. It can be changed while the ledger is in use; a
/// disk that fills up, and that somebody clears, is tried with it.
#[derive(Clone, Debug)]
pub struct Room(Arc<AtomicU64>);

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(u64::MAX)))
    }
}

impl Room {
    /// From now on so many bytes at most.
    pub fn set(&self, bytes: u64) {
        self.0.store(bytes, Ordering::SeqCst);
    }
}

/// Every standing of one platform, in memory and in its journal.
#[derive(Debug)]
pub(super) struct Ledger {
    units: HashMap<UnitId, Standing>,
    journal: Journal,
}

impl Ledger {
    /// Reads the journal, or begins one. One process at a time holds it.
    pub fn open(path: &Path) -> Result<Self, CloudError> {
        let (mut journal, units, lines) = Journal::open(path)?;
        // Old lines cost start-up time only; rewriting is worth it when most of them are old.
        if lines > 1_000 + units.len() * 4 {
            // On a full disk it stays as long as it is: what it says lets its units in all the same.
            let _ = journal.rewrite(&units);
        }
        Ok(Self { units, journal })
    }

    /// Keeps within this room from now on.
    pub fn within(mut self, room: Room) -> Self {
        self.journal.room = room;
        self
    }

    pub fn standing(&self, unit: UnitId) -> Standing {
        self.units.get(&unit).cloned().unwrap_or_default()
    }

    pub fn units(&self) -> impl Iterator<Item = (UnitId, &Standing)> {
        self.units.iter().map(|(unit, standing)| (*unit, standing))
    }

    /// Makes the standings durable, then true. On an error nothing has changed.
    pub fn put(&mut self, changes: HashMap<UnitId, Standing>, sync: bool) -> Result<(), CloudError> {
        let changes: HashMap<_, _> =
            changes.into_iter().filter(|(unit, next)| self.units.get(unit) != Some(next)).collect();
        if !changes.is_empty() {
            self.journal.append(&changes, sync)?;
            self.units.extend(changes);
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    unit: UnitId,
    standing: Standing,
}

#[derive(Debug)]
struct Journal {
    path: PathBuf,
    file: File,
    /// Bytes that are whole lines.
    len: u64,
    room: Room,
}

impl Drop for Journal {
    /// Gives the lock up by name, not by closing: a child process in the making may hold a copy of the descriptor.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

impl Journal {
    fn open(path: &Path) -> Result<(Self, HashMap<UnitId, Standing>, usize), CloudError> {
        let fail = |detail: String| CloudError::Ledger { path: path.display().to_string(), detail };
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| fail(e.to_string()))?;
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(|e| fail(e.to_string()))?;
        file.try_lock().map_err(|_| fail("another program uses it".into()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| fail(e.to_string()))?;

        let mut units = HashMap::new();
        let (mut len, mut lines) = (0usize, 0usize);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            match decode(piece) {
                Some(Line { unit, standing }) => {
                    units.insert(unit, standing);
                    len += piece.len();
                    lines += 1;
                }
                // Only a write that never finished may be short: nobody was told that it happened.
                None if len + piece.len() == bytes.len() && !piece.ends_with(b"\n") => break,
                None => {
                    return Err(CloudError::Damaged { path: path.display().to_string(), line: lines + 1 });
                }
            }
        }
        let mut journal = Self { path: path.to_owned(), file, len: len as u64, room: Room::default() };
        journal.cut()?;
        Ok((journal, units, lines))
    }

    fn failure(&self, error: &std::io::Error) -> CloudError {
        let detail = match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                format!("the disk is full: {error}")
            }
            _ => error.to_string(),
        };
        CloudError::Ledger { path: self.path.display().to_string(), detail }
    }

    /// Writes as much as there is room for, as a disk would.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let left = self.room.0.load(Ordering::SeqCst).saturating_sub(self.len);
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.file.write_all(&bytes[..fits])?;
        if fits < bytes.len() { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Drops whatever stands behind the last whole line.
    fn cut(&mut self) -> Result<(), CloudError> {
        let cut = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
        cut.map(drop).map_err(|e| self.failure(&e))
    }

    fn append(&mut self, changes: &HashMap<UnitId, Standing>, sync: bool) -> Result<(), CloudError> {
        let bytes = encode(changes.iter());
        // A write that failed half way left bytes behind `len`; they go before anything is added.
        self.cut()?;
        let written = self.write(&bytes).and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(e) => {
                let failure = self.failure(&e);
                // Best effort: the next append cuts again, and a start reads only whole lines.
                let _ = self.cut();
                Err(failure)
            }
        }
    }

    /// Writes a fresh journal beside the old one and renames it over: either the old or the new one exists.
    fn rewrite(&mut self, units: &HashMap<UnitId, Standing>) -> Result<(), CloudError> {
        let bytes = encode(units.iter());
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let fresh = (|| {
            let mut fresh = tempfile::NamedTempFile::new_in(&folder)?;
            fresh.write_all(&bytes)?;
            fresh.as_file().sync_all()?;
            fresh.as_file().lock()?;
            let file = fresh.persist(&self.path).map_err(|e| e.error)?;
            #[cfg(unix)]
            File::open(&folder)?.sync_all()?;
            Ok(file)
        })();
        self.file = fresh.map_err(|e| self.failure(&e))?;
        self.len = bytes.len() as u64;
        Ok(())
    }
}

fn checksum(json: &[u8]) -> String {
    let digest = crypto::sha256(&[b"keywright/cloud-ledger/v1", json]);
    hex::encode(digest.first_chunk::<8>().unwrap_or(&[0; 8]))
}

fn encode<'a>(units: impl Iterator<Item = (&'a UnitId, &'a Standing)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (unit, standing) in units {
        let line = Line { unit: *unit, standing: standing.clone() };
        // Plain numbers, strings and maps with string keys always serialise.
        let Ok(json) = serde_json::to_vec(&line) else { continue };
        bytes.extend_from_slice(checksum(&json).as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
    }
    bytes
}

fn decode(line: &[u8]) -> Option<Line> {
    let (sum, json) = line.strip_suffix(b"\n")?.split_at_checked(16)?;
    let json = json.strip_prefix(b" ")?;
    if checksum(json).as_bytes() != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UNIT: UnitId = UnitId([3; 12]);

    fn id(generation: u32) -> Identity {
        Identity { unit: UNIT, generation }
    }

    fn credential(generation: u32) -> Credential {
        Credential::from_password(format!("password of {generation}"))
    }

    fn staged(now: &Standing, generation: u32) -> Standing {
        stage(now, id(generation), &credential(generation)).unwrap().next.settled(|_| true)
    }

    fn committed(now: &Standing, generation: u32) -> Standing {
        commit(now, id(generation)).unwrap().next
    }

    fn enabled(standing: &Standing) -> Vec<u32> {
        standing.enabled().collect()
    }

    #[test]
    fn old_both_new() {
        let old = committed(&staged(&Standing::default(), 1), 1);
        assert_eq!((enabled(&old), old.staged(), old.active()), (vec![1], None, Some(1)));
        let both = staged(&old, 2);
        assert_eq!((enabled(&both), both.staged(), both.active()), (vec![1, 2], Some(2), Some(1)));
        let decision = commit(&both, id(2)).unwrap();
        assert_eq!(decision.ack, Ack::Applied);
        assert!(
            matches!(decision.acts[..], [Act::Remove { identity, last: false }] if identity == id(1)),
            "{:?}",
            decision.acts
        );
        assert_eq!((enabled(&decision.next), decision.next.active()), (vec![2], Some(2)));
        assert!(decision.next.is_pending());
        assert!(!decision.next.settled(|_| true).is_pending());
    }

    #[test]
    fn a_stale_commit_changes_nothing() {
        let both = staged(&committed(&staged(&Standing::default(), 1), 1), 2);
        let decision = commit(&both, id(1)).unwrap();
        assert_eq!((decision.ack, decision.next, decision.acts.len()), (Ack::Stale, both.clone(), 0));
        let new = committed(&both, 2).settled(|_| true);
        assert_eq!(commit(&new, id(1)).unwrap().ack, Ack::Stale);
        assert_eq!(commit(&new, id(2)).unwrap().ack, Ack::AlreadySo);
        assert_eq!(commit(&new, id(3)).unwrap_err(), CloudError::NotStaged { identity: id(3) });
    }

    #[test]
    fn the_old_identity_stays_until_the_broker_has_the_new_one() {
        let old = committed(&staged(&Standing::default(), 1), 1);
        let unconfirmed = stage(&old, id(2), &credential(2)).unwrap().next;
        assert_eq!(commit(&unconfirmed, id(2)).unwrap_err(), CloudError::NotStaged { identity: id(2) });
        let settled = unconfirmed.settled(|g| g == 1);
        assert!(settled.is_pending(), "generation 2 was not seen");
        assert_eq!(commit(&settled, id(2)).unwrap_err(), CloudError::NotStaged { identity: id(2) });
        let lost = staged(&old, 2).without(|g| g == 2);
        assert_eq!(commit(&lost, id(2)).unwrap_err(), CloudError::NotStaged { identity: id(2) });
        // A login is the broker's word, too; the old key's login says nothing.
        assert_eq!(logged_in(&unconfirmed, id(1)).unwrap().next, unconfirmed);
        let proved = logged_in(&unconfirmed, id(2)).unwrap();
        assert_eq!((proved.ack, enabled(&proved.next)), (Ack::Applied, vec![2]));
    }

    #[test]
    fn a_withdrawal_takes_what_is_staged_and_never_what_is_committed() {
        let both = staged(&committed(&staged(&Standing::default(), 1), 1), 2);
        let gone = withdraw(&both, id(2)).unwrap();
        assert_eq!((gone.ack, enabled(&gone.next), gone.next.active()), (Ack::Applied, vec![1], Some(1)));
        assert!(matches!(gone.acts[..], [Act::Remove { identity, last: false }] if identity == id(2)));
        // Repeated; and whoever comes too late finds it gone: a commit, a login, a stage.
        let again = withdraw(&gone.next, id(2)).unwrap();
        assert_eq!((again.ack, again.acts.len()), (Ack::AlreadySo, 1), "an unconfirmed removal is repeated");
        assert_eq!(commit(&gone.next, id(2)).unwrap().ack, Ack::Stale);
        assert_eq!(logged_in(&gone.next, id(2)).unwrap().next, gone.next);
        assert!(matches!(stage(&gone.next, id(2), &credential(2)), Err(CloudError::Past { .. })));
        assert_eq!(enabled(&staged(&gone.next.settled(|_| true), 3)), vec![1, 3]);
        // The other order: the login came first.
        let new = logged_in(&both, id(2)).unwrap().next;
        let late = withdraw(&new, id(2)).unwrap();
        assert_eq!((late.ack, &late.next, late.acts.len()), (Ack::Committed, &new, 0));
        assert_eq!(withdraw(&new, id(3)).unwrap_err(), CloudError::NotStaged { identity: id(3) });
    }

    #[test]
    fn nothing_returns_and_only_one_waits() {
        let both = staged(&committed(&staged(&Standing::default(), 1), 1), 2);
        assert_eq!(
            stage(&both, id(3), &credential(3)).unwrap_err(),
            CloudError::Unconfirmed { unit: UNIT, staged: 2 }
        );
        let again = stage(&both, id(2), &credential(2)).unwrap();
        assert_eq!((again.ack, enabled(&again.next)), (Ack::AlreadySo, vec![1, 2]));
        assert_eq!(
            stage(&both, id(2), &credential(9)).unwrap_err(),
            CloudError::OtherKey { identity: id(2) }
        );
        let retired = retire(&both, id(2)).unwrap().next.settled(|_| true);
        assert_eq!(
            stage(&retired, id(2), &credential(2)).unwrap_err(),
            CloudError::Past { identity: id(2), highest: 2 }
        );
        assert_eq!(commit(&retired, id(2)).unwrap().ack, Ack::Stale);
        assert_eq!(enabled(&staged(&retired, 3)), vec![1, 3]);
        assert!(matches!(stage(&both, id(0), &credential(0)), Err(CloudError::Invalid { .. })));
    }

    #[test]
    fn a_block_outlives_every_request_but_its_end() {
        let both = staged(&committed(&staged(&Standing::default(), 1), 1), 2);
        let blocked = block(&both, UNIT, true);
        assert_eq!(blocked.acts.len(), 2);
        assert_eq!(
            stage(&blocked.next, id(2), &credential(2)).unwrap_err(),
            CloudError::Blocked { unit: UNIT }
        );
        let new = committed(&blocked.next, 2);
        assert!(new.is_blocked());
        let free = block(&new, UNIT, false);
        assert!(
            matches!(free.acts[..], [Act::Resume { identity }] if identity == id(2)),
            "only the committed generation comes back"
        );
    }

    #[test]
    fn the_last_identity_to_leave_is_marked() {
        let both = staged(&committed(&staged(&Standing::default(), 1), 1), 2);
        let first = retire(&both, id(1)).unwrap();
        assert!(matches!(first.acts[..], [Act::Remove { last: false, .. }]));
        let second = retire(&first.next, id(2)).unwrap();
        assert!(
            matches!(second.acts[..], [Act::Remove { last: false, .. }, Act::Remove { last: true, .. }]),
            "an unconfirmed removal is repeated"
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Stage(u32),
        Commit(u32),
        Retire(u32),
        Withdraw(u32),
        Block(bool),
        Settle,
        Login(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let g = 0u32..6;
        prop_oneof![
            4 => g.clone().prop_map(Step::Stage),
            4 => g.clone().prop_map(Step::Commit),
            1 => g.clone().prop_map(Step::Retire),
            1 => g.clone().prop_map(Step::Withdraw),
            1 => g.prop_map(Step::Login),
            1 => any::<bool>().prop_map(Step::Block),
            3 => Just(Step::Settle),
        ]
    }

    proptest! {
        /// I2, I8, I10 over every order of requests, and: no request but `retire` takes the last identity away, or, where
        /// none was ever committed, `withdraw`.
        #[test]
        fn any_order_of_requests_keeps_the_invariants(steps in proptest::collection::vec(step(), 0..60)) {
            let mut now = Standing::default();
            for step in steps {
                let before = now.clone();
                let result = match &step {
                    Step::Stage(g) => stage(&now, id(*g), &credential(*g)),
                    Step::Commit(g) => commit(&now, id(*g)),
                    Step::Retire(g) => retire(&now, id(*g)),
                    Step::Withdraw(g) => withdraw(&now, id(*g)),
                    Step::Block(on) => Ok(block(&now, UNIT, *on)),
                    Step::Settle => { now = now.settled(|_| true); continue }
                    Step::Login(g) => logged_in(&now, id(*g)),
                };
                if let Ok(decision) = result {
                    now = decision.next;
                }
                let enabled = enabled(&now);
                prop_assert!(enabled.len() <= 2, "{step:?}: {enabled:?}");
                prop_assert!(now.identities.values().filter(|e| e.phase == Phase::Staged).count() <= 1);
                prop_assert!(now.identities.values().filter(|e| e.phase == Phase::Active).count() <= 1);
                prop_assert!(now.highest >= before.highest);
                prop_assert!(enabled.iter().all(|g| *g <= now.highest));
                if !matches!(step, Step::Retire(_) | Step::Commit(_) | Step::Login(_)) {
                    prop_assert_eq!(before.active(), now.active(), "{:?} took the confirmed one", step);
                }
                let first = matches!(step, Step::Withdraw(_)) && before.active().is_none();
                if before.enabled().next().is_some() && !matches!(step, Step::Retire(_)) && !first {
                    prop_assert!(!enabled.is_empty(), "{step:?} took the last identity");
                }
                for g in &enabled {
                    prop_assert!(before.enabled().any(|b| b == *g) || *g > before.highest, "{g} returned");
                }
            }
        }
    }

    #[test]
    fn the_journal_survives_a_torn_tail_and_refuses_other_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cloud").join("local.journal");
        let old = committed(&staged(&Standing::default(), 1), 1);
        let both = staged(&old, 2);
        {
            let mut ledger = Ledger::open(&path).unwrap();
            assert!(
                matches!(Ledger::open(&path), Err(CloudError::Ledger { .. })),
                "two programs must not share one ledger"
            );
            ledger.put(HashMap::from([(UNIT, old.clone())]), true).unwrap();
            ledger.put(HashMap::from([(UNIT, both.clone())]), true).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for cut in first..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let ledger = Ledger::open(&path).unwrap();
            let want = if cut == whole.len() { &both } else { &old };
            assert_eq!(&ledger.standing(UNIT), want, "cut at {cut}");
        }
        std::fs::write(&path, &whole).unwrap();
        let mut bent = whole.clone();
        bent[20] ^= 1;
        std::fs::write(&path, &bent).unwrap();
        assert_eq!(
            Ledger::open(&path).unwrap_err(),
            CloudError::Damaged { path: path.display().to_string(), line: 1 }
        );
    }

    #[test]
    fn a_write_that_fails_changes_nothing_and_the_next_one_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let old = committed(&staged(&Standing::default(), 1), 1);
        let both = staged(&old, 2);
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.put(HashMap::from([(UNIT, old.clone())]), true).unwrap();
        // A handle that can't write stands for a full disk.
        let good = std::mem::replace(&mut ledger.journal.file, File::open(&path).unwrap());
        let failed = ledger.put(HashMap::from([(UNIT, both.clone())]), true);
        assert!(matches!(failed, Err(CloudError::Ledger { .. })));
        assert_eq!(ledger.standing(UNIT), old);
        ledger.journal.file = good;
        // What a half-done write left behind the last whole line.
        ledger.journal.file.write_all(b"0123456789abcdef {\"unit\"").unwrap();
        ledger.put(HashMap::from([(UNIT, both.clone())]), true).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(&path).unwrap().standing(UNIT), both);
    }

    #[test]
    fn a_long_journal_is_rewritten_and_says_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let last = {
            let mut ledger = Ledger::open(&path).unwrap();
            let mut standing = Standing::default();
            for generation in 1..700 {
                standing = staged(&standing, generation);
                ledger.put(HashMap::from([(UNIT, standing.clone())]), false).unwrap();
                standing = committed(&standing, generation).settled(|_| true);
                ledger.put(HashMap::from([(UNIT, standing.clone())]), false).unwrap();
            }
            standing
        };
        let before = std::fs::metadata(&path).unwrap().len();
        let mut ledger = Ledger::open(&path).unwrap();
        assert_eq!(ledger.standing(UNIT), last);
        assert!(std::fs::metadata(&path).unwrap().len() * 100 < before);
        assert!(Ledger::open(&path).is_err(), "the new file is locked, too");
        ledger.put(HashMap::from([(UNIT, staged(&last, 700))]), true).unwrap();
        drop(ledger);
        assert_eq!(Ledger::open(&path).unwrap().standing(UNIT).staged(), Some(700));
    }
}

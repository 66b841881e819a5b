//! The probe, over probe-rs: attach, look, flash, read back, reset.
//!
//! Invariants:
//! - All probe work runs on the fixture's probe thread. A probe that stops answering (a Black Magic Probe over TCP has
//!   no read time-out) costs that thread, never the worker: the worker gives up on it after [`QUIET`] and starts
//!   another.
//! - Nothing here decides what may be erased; `line` does, and has written it down before it calls.

use crate::config::ProbeDescription;
use crate::failure::{Failure, FailureCode};
use crate::image::StageOne;
use crate::line::bench::{Cancel, Chip, Contents, FlashProgress, Retry};
use crate::line::lock::{OptionRequest, ReadProtection, guard};
use crate::model::{OptionBytes, UnitId};
use keywright_protocol::map::{self, Region};
use keywright_protocol::record;
use probe_rs::architecture::arm::dp::DpAddress;
use probe_rs::architecture::arm::memory::ArmMemoryInterface;
use probe_rs::architecture::arm::sequences::DefaultArmSequence;
use probe_rs::architecture::arm::{ArmDebugInterface, ArmError, FullyQualifiedApAddress};
use probe_rs::config::Registry;
use probe_rs::flashing::{
    DownloadOptions, FlashError, FlashLayout, FlashProgress as ProbeProgress, ProgressEvent,
    ProgressOperation,
};
use probe_rs::probe::blackmagic::BlackMagicProbeFactory;
use probe_rs::probe::list::Lister;
use probe_rs::probe::{
    DebugProbeError, DebugProbeSelector, Probe, ProbeCreationError, ProbeFactory, WireProtocol,
};
use probe_rs::{MemoryInterface, Permissions, RegisterId, Session};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// The target's name in probe-rs; dev id and flash size are checked besides.
const TARGET: &str = "STM32F429ZITx";
/// SWD clock, if the probe lets us choose: what a fixture's cables carry without thought.
const SPEED_KHZ: u32 = 4_000;
/// A probe that says nothing for so long is lost. The longest legal silence is one 128 KiB sector's erase,
/// 4 s at worst (STM32F429 datasheet, table 50).
const QUIET: Duration = Duration::from_secs(15);
/// FLASH_OPTKEYR, FLASH_SR, FLASH_OPTCR, FLASH_OPTCR1 (RM0090 §3.9.6, .7, .10, .11).
const FLASH_OPTKEYR: u64 = 0x4002_3C08;
const FLASH_SR: u64 = 0x4002_3C0C;
const FLASH_OPTCR: u64 = 0x4002_3C14;
const FLASH_OPTCR1: u64 = 0x4002_3C18;
/// What opens the option bytes for writing (RM0090 §3.6.2).
const OPTION_KEYS: [u32; 2] = [0x0819_2A3B, 0x4C5D_6E7F];
const OPTLOCK: u32 = 1;
const OPTSTRT: u32 = 2;
/// BSY, and the errors an operation may end with, in FLASH_SR.
const BSY: u32 = 1 << 16;
const FLASH_ERRORS: u32 = 0xF2;
/// Option bytes take a tenth of a second; going back to level 0 erases both banks first, 32 s each at worst (STM32F429
/// datasheet, table 50).
const OPTIONS_TAKE: Duration = Duration::from_secs(80);
/// How long the reset pin is held: the chip needs microseconds, a fixture's capacitor more.
const RESET_PULSE: Duration = Duration::from_millis(20);
/// How long a busy probe is waited for before it counts as busy.
const SETTLE: Retry = Retry { tries: 6, pause: Duration::from_millis(100) };
/// A Black Magic Probe, on USB or TCP.
const BLACK_MAGIC: (u16, u16) = (0x1d50, 0x6018);
/// How much is read at a time while comparing.
const CHUNK: u32 = 16 * 1024;

/// Every debug probe on this PC.
pub fn list() -> Vec<ProbeDescription> {
    Lister::new()
        .list_all()
        .into_iter()
        .map(|p| ProbeDescription {
            vid: p.vendor_id,
            pid: p.product_id,
            serial: p.serial_number.filter(|s| !s.is_empty()),
            product: p.identifier,
        })
        .collect()
}

type Job = Box<dyn FnOnce(&mut Port) + Send>;

/// One fixture's probe: a handle on its probe thread.
#[derive(Debug)]
pub struct SwdProbe {
    selector: String,
    jobs: Option<mpsc::Sender<Job>>,
}

enum Reply<T> {
    Progress(FlashProgress),
    Done(Result<T, Failure>),
}

impl SwdProbe {
    /// A probe by its selector; nothing is opened yet.
    pub fn new(selector: &str) -> Self {
        Self { selector: selector.to_owned(), jobs: None }
    }

    fn jobs(&mut self) -> Result<&mpsc::Sender<Job>, Failure> {
        if self.jobs.is_none() {
            let (jobs, work) = mpsc::channel::<Job>();
            let mut port = Port { selector: self.selector.clone(), session: None, eye: None };
            std::thread::Builder::new()
                .name(format!("probe {}", self.selector))
                .spawn(move || {
                    for job in work {
                        job(&mut port);
                    }
                })
                .map_err(|e| {
                    Failure::new(FailureCode::StationFault, format!("no thread for the probe: {e}"))
                })?;
            self.jobs = Some(jobs);
        }
        self.jobs.as_ref().ok_or_else(|| Failure::new(FailureCode::StationFault, "no probe thread"))
    }

    /// Runs `job` on the probe thread; gives up on both when nothing is heard for [`QUIET`].
    fn call<T: Send + 'static>(
        &mut self,
        progress: &mut dyn FnMut(FlashProgress),
        job: impl FnOnce(&mut Port, &dyn Fn(FlashProgress)) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (replies, answers) = mpsc::channel();
        let job: Job = Box::new(move |port| {
            let report = replies.clone();
            let result = job(port, &move |p| drop(report.send(Reply::Progress(p))));
            drop(replies.send(Reply::Done(result)));
        });
        // A thread that is gone takes no job and drops this one with its channel: seen as disconnected just below.
        drop(self.jobs()?.send(job));
        loop {
            match answers.recv_timeout(QUIET) {
                Ok(Reply::Progress(p)) => progress(p),
                Ok(Reply::Done(result)) => return result,
                Err(RecvTimeoutError::Timeout) => {
                    self.jobs = None;
                    return Err(Failure::new(
                        FailureCode::ProbeLost,
                        format!("{} said nothing for {} s", self.selector, QUIET.as_secs()),
                    ));
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        // The thread is gone: probe-rs panicked, which it does when a probe breaks off in mid-answer.
        self.jobs = None;
        Err(Failure::new(FailureCode::ProbeLost, format!("{} broke off in mid-answer", self.selector)))
    }

    /// See [`crate::line::bench::Bench::attach`].
    ///
    /// # Errors
    /// As there.
    pub fn attach(&mut self) -> Result<Chip, Failure> {
        self.call(&mut |_| {}, |port, _| {
            port.let_go();
            port.open(true)?;
            port.chip()
        })
    }

    /// See [`crate::line::bench::Bench::inspect`].
    ///
    /// # Errors
    /// As there.
    pub fn inspect(&mut self, stage_one: &StageOne) -> Result<Contents, Failure> {
        let stage_one = stage_one.clone();
        self.call(&mut |_| {}, move |port, _| port.inspect(&stage_one))
    }

    /// See [`crate::line::bench::Bench::flash`].
    ///
    /// # Errors
    /// As there.
    pub fn flash(
        &mut self,
        stage_one: &StageOne,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<(), Failure> {
        let stage_one = stage_one.clone();
        self.call(progress, move |port, report| port.flash(&stage_one, report))
    }

    /// See [`crate::line::bench::Bench::restart`].
    ///
    /// # Errors
    /// As there.
    pub fn restart(&mut self) -> Result<UnitId, Failure> {
        self.call(&mut |_| {}, |port, _| {
            // Through a session the core would stay in debug state (its end halts and runs it once more); the unit must
            // run as it will in the field.
            port.let_go();
            let unit = port.unit()?;
            port.reset()?;
            port.let_go();
            Ok(unit)
        })
    }

    /// See [`crate::line::bench::Bench::unit_now`].
    ///
    /// # Errors
    /// As there.
    pub fn unit_now(&mut self) -> Result<UnitId, Failure> {
        self.call(&mut |_| {}, |port, _| {
            // A connection kept from before would not notice that another chip has come in its place.
            port.let_go();
            let unit = port.unit();
            port.let_go();
            unit
        })
    }

    /// See [`crate::line::bench::Bench::presence`].
    ///
    /// # Errors
    /// As there.
    pub fn presence(&mut self) -> Result<Option<UnitId>, Failure> {
        self.call(&mut |_| {}, |port, _| {
            // An open connection is a cheap look; if it fails, a fresh one tells an empty fixture from a new board.
            if port.eye.is_some()
                && let Ok(unit) = port.unit()
                && !unit.is_blank()
            {
                return Ok(Some(unit));
            }
            port.let_go();
            match port.unit() {
                Ok(unit) if unit.is_blank() => {
                    port.let_go();
                    Ok(None)
                }
                Ok(unit) => Ok(Some(unit)),
                Err(failure) if failure.outcome() == crate::model::Outcome::Fail => Ok(None),
                Err(failure) if failure.code == FailureCode::BoardUnplugged => Ok(None),
                Err(failure) => Err(failure),
            }
        })
    }

    /// See [`crate::line::bench::Bench::option_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        self.call(&mut |_| {}, |port, _| {
            port.let_go();
            port.option_bytes()
        })
    }

    /// See [`crate::line::bench::Bench::set_option_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn set_option_bytes(
        &mut self,
        request: &OptionRequest,
        progress: &mut dyn FnMut(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        let request = *request;
        self.call(progress, move |port, report| port.set_option_bytes(request, report))
    }

    /// See [`crate::line::bench::Bench::flash_is_closed`].
    ///
    /// # Errors
    /// As there.
    pub fn flash_is_closed(&mut self) -> Result<bool, Failure> {
        self.call(&mut |_| {}, |port, _| {
            port.let_go();
            let read = port.look(|memory| memory.read_word_32(u64::from(map::KEY_AREA_A.base)));
            // Was that the chip's refusal, or is nobody there?
            port.unit()?;
            port.let_go();
            Ok(read.is_err())
        })
    }

    /// See [`crate::line::bench::Bench::pull_reset`].
    ///
    /// # Errors
    /// As there.
    pub fn pull_reset(&mut self) -> Result<(), Failure> {
        self.call(&mut |_| {}, |port, _| {
            port.let_go();
            let mut probe = port.probe()?;
            let pulled = probe.target_reset_assert().and_then(|()| {
                std::thread::sleep(RESET_PULSE);
                probe.target_reset_deassert()
            });
            pulled.map_err(|e| port.unopened(&e))
        })
    }

    /// See [`crate::line::bench::Bench::release`].
    pub fn release(&mut self) {
        if self.jobs.is_some() {
            let _ = self.call(&mut |_| {}, |port, _| {
                port.let_go();
                Ok(())
            });
        }
    }
}

/// The probe thread's side. At most one of the two connections is open: a probe serves one.
struct Port {
    selector: String,
    /// For work: the core is under the debugger's control.
    session: Option<Session>,
    /// For looking: memory reads beside a running core, which never notices.
    eye: Option<Box<dyn ArmDebugInterface>>,
}

/// Is everything from r0 to r1 (multiples of 32 bytes) FF? Ends at the last halfword with r2 = 0 if so (ARMv7-M).
const BLANK_CHECK: [u16; 16] = [
    0xE8B0, 0x03FC, // loop: ldmia.w r0!, {r2-r9}
    0x401A, 0x4022, 0x402A, 0x4032, 0x403A, // ands r2, r3 … r2, r7
    0xEA02, 0x0208, 0xEA02, 0x0209, // and.w r2, r2, r8; and.w r2, r2, r9
    0x3201, // adds r2, #1
    0xD101, // bne end
    0x4288, // cmp r0, r1
    0xD1F0, // bne loop
    0xBE00, // end: bkpt
];

/// What stage one does to which sector. An erase costs up to seconds, looking milliseconds: what is blank already is
/// only written, what must be blank and is not is only erased.
struct Plan {
    /// Address and bytes, none across a sector's border, ascending.
    writes: Vec<(u32, Vec<u8>)>,
    /// Every sector stage one answers for, by number, and whether it is blank.
    sectors: BTreeMap<u8, (Region, bool)>,
    written: BTreeSet<u8>,
}

impl Plan {
    fn new(stage_one: &StageOne) -> Self {
        let mut plan = Self { writes: Vec::new(), sectors: BTreeMap::new(), written: BTreeSet::new() };
        for (_, address, data) in stage_one.writes() {
            let (mut address, mut data) = (address, data);
            while let Some((number, sector)) = map::sector_of(address).filter(|_| !data.is_empty()) {
                let (now, later) = data.split_at(data.len().min((sector.end() - address) as usize));
                plan.writes.push((address, now.to_vec()));
                plan.sectors.insert(number, (sector, false));
                plan.written.insert(number);
                (address, data) = (sector.end(), later);
            }
        }
        // Blank afterwards: the other key area, boot journal, trust store, storage-secret slots.
        let mut blank = vec![map::KEY_AREA_A, map::STORAGE_SECRET];
        blank.extend(map::BOOT_JOURNAL);
        blank.extend(map::TRUST_STORE);
        for region in blank {
            if let Some((number, sector)) = map::sector_of(region.base) {
                plan.sectors.entry(number).or_insert((sector, false));
                if !plan.written.contains(&number) {
                    // The loader erases the sectors it has data for; FF is programmed as nothing.
                    plan.writes.push((sector.base, vec![0xFF; 16]));
                }
            }
        }
        plan
    }

    /// Its sectors, neighbours joined.
    fn spans(&self) -> Vec<Region> {
        let mut spans: Vec<Region> = Vec::new();
        for (sector, _) in self.sectors.values() {
            match spans.last_mut() {
                Some(last) if last.end() == sector.base => last.len += sector.len,
                _ => spans.push(*sector),
            }
        }
        spans
    }

    fn is_blank(&self, address: u32) -> bool {
        map::sector_of(address).and_then(|(n, _)| self.sectors.get(&n)).is_some_and(|(_, blank)| *blank)
    }

    /// What to write into blank sectors, or into those that must be erased first.
    fn writes(&self, blank: bool) -> impl Iterator<Item = &(u32, Vec<u8>)> {
        self.writes.iter().filter(move |(address, data)| {
            self.is_blank(*address) == blank && !(blank && data.iter().all(|b| *b == 0xFF))
        })
    }

    /// Sectors that were not blank and get no data.
    fn erased_only(&self) -> Vec<Region> {
        let only = self.sectors.iter().filter(|(n, (_, blank))| !blank && !self.written.contains(n));
        only.map(|(_, (region, _))| *region).collect()
    }

    /// Bytes to erase, to write and to read back, as probe-rs counts them (whole pages).
    fn total(&self) -> u64 {
        const PAGE: u64 = 1024;
        let erase: u64 =
            self.sectors.values().filter(|(_, blank)| !blank).map(|(r, _)| u64::from(r.len)).sum();
        let write: u64 = self
            .writes(false)
            .chain(self.writes(true))
            .map(|(_, data)| (data.len() as u64).div_ceil(PAGE) * PAGE)
            .sum();
        erase + 2 * write
    }
}

fn read_options(memory: &mut dyn ArmMemoryInterface) -> Result<OptionBytes, ArmError> {
    Ok(OptionBytes {
        optcr: memory.read_word_32(FLASH_OPTCR)? & !(OPTLOCK | OPTSTRT),
        optcr1: memory.read_word_32(FLASH_OPTCR1)?,
    })
}

fn registry() -> &'static Registry {
    // Unpacking every chip family probe-rs knows takes tens of milliseconds: once is enough.
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::from_builtin_families)
}

impl Port {
    fn probe(&self) -> Result<Probe, Failure> {
        let selector: DebugProbeSelector = self.selector.parse().map_err(|e| {
            Failure::new(FailureCode::NoProbe, format!("{:?} names no probe: {e}", self.selector))
        })?;
        // A probe that this station let go of a moment ago may not have noticed yet.
        let mut probe = SETTLE.run(&Cancel::default(), |_| match self.driver(&selector) {
            Err(failure) if failure.code == FailureCode::ProbeBusy => Err(failure),
            settled => Ok(settled),
        })??;
        // Not every probe has a choice; the default works too.
        let _ = probe.set_speed(SPEED_KHZ);
        probe.select_protocol(WireProtocol::Swd).map_err(|e| self.unopened(&e))?;
        Ok(probe)
    }

    fn driver(&self, selector: &DebugProbeSelector) -> Result<Probe, Failure> {
        // Asking one driver instead of all keeps its answer: on a PC without USB the others' complaints would hide
        // whether this probe is busy or missing.
        let opened = if (selector.vendor_id, selector.product_id) == BLACK_MAGIC {
            BlackMagicProbeFactory.open(selector).map(Probe::from_specific_probe)
        } else {
            Lister::new().open(selector.clone())
        };
        opened.map_err(|e| self.unopened(&e))
    }

    fn let_go(&mut self) {
        self.session = None;
        self.eye = None;
    }

    /// The AHB-AP's memory, without a session.
    fn look<T>(
        &mut self,
        act: impl FnOnce(&mut dyn ArmMemoryInterface) -> Result<T, ArmError>,
    ) -> Result<T, Failure> {
        if self.eye.is_none() {
            let mut probe = self.probe()?;
            let lost = |e: &(dyn std::error::Error + 'static)| match self.unattached(e) {
                f if f.code == FailureCode::NoTarget => Failure::new(FailureCode::BoardUnplugged, chain(e)),
                f => f,
            };
            probe.attach_to_unspecified().map_err(|e| lost(&e))?;
            let mut eye = probe
                .try_into_arm_debug_interface(DefaultArmSequence::create())
                .map_err(|(_, e)| lost(&e))?;
            eye.select_debug_port(DpAddress::Default).map_err(|e| lost(&e))?;
            self.eye = Some(eye);
        }
        let Some(eye) = &mut self.eye else {
            return Err(Failure::new(FailureCode::ProbeLost, &self.selector));
        };
        let done = eye
            .memory_interface(&FullyQualifiedApAddress::v1_with_default_dp(0))
            .and_then(|mut memory| act(&mut *memory));
        done.map_err(|e| {
            self.eye = None;
            gone(&e)
        })
    }

    /// Resets chip and core and lets go of the core: no halt, no vector catch (ARMv7-M ARM C1.6, B3.2.6).
    fn reset(&mut self) -> Result<(), Failure> {
        const DEMCR: u64 = 0xE000_EDFC;
        const DHCSR: u64 = 0xE000_EDF0;
        const AIRCR: u64 = 0xE000_ED0C;
        self.look(|memory| {
            let demcr = memory.read_word_32(DEMCR)?;
            memory.write_word_32(DEMCR, demcr & !1)?;
            memory.write_word_32(DHCSR, 0xA05F_0000)?;
            memory.write_word_32(AIRCR, 0x05FA_0004)?;
            memory.flush()
        })
    }

    fn option_bytes(&mut self) -> Result<OptionBytes, Failure> {
        self.look(read_options)
    }

    /// RM0090 §3.6.2: keys, words, start, wait; then a reset, which loads what was programmed (§3.9.10).
    fn set_option_bytes(
        &mut self,
        request: OptionRequest,
        report: &dyn Fn(FlashProgress),
    ) -> Result<OptionBytes, Failure> {
        const DHCSR: u64 = 0xE000_EDF0;
        const HALT: u32 = 0xA05F_0003;
        let wanted = request.words();
        guard(wanted)?;
        self.let_go();
        let before = self.option_bytes()?;
        let erases =
            before.protection() == ReadProtection::Level1 && wanted.protection() == ReadProtection::Level0;
        let until = Instant::now() + OPTIONS_TAKE;
        // The firmware may be at the flash itself: it is stopped, and what it began comes to its end.
        self.look(|memory| memory.write_word_32(DHCSR, HALT))?;
        self.wait_for_flash(until, "finishing", report)?;
        let shown = self.look(|memory| {
            memory.write_word_32(FLASH_SR, FLASH_ERRORS)?;
            if memory.read_word_32(FLASH_OPTCR)? & OPTLOCK != 0 {
                for key in OPTION_KEYS {
                    memory.write_word_32(FLASH_OPTKEYR, key)?;
                }
            }
            memory.write_word_32(FLASH_OPTCR1, wanted.optcr1)?;
            memory.write_word_32(FLASH_OPTCR, wanted.optcr)?;
            read_options(memory)
        })?;
        // A bit that got lost on the wire could be for ever.
        if shown != wanted {
            self.reset()?;
            self.let_go();
            return Err(Failure::new(
                FailureCode::LockFailed,
                format!("the registers show {shown} where {wanted} was written; nothing was programmed"),
            ));
        }
        self.look(|memory| memory.write_word_32(FLASH_OPTCR, wanted.optcr | OPTSTRT))?;
        let errors =
            self.wait_for_flash(until, if erases { "erasing everything" } else { "setting" }, report)?;
        self.look(|memory| memory.write_word_32(FLASH_OPTCR, wanted.optcr | OPTLOCK))?;
        self.reset()?;
        self.let_go();
        let observed = self.option_bytes()?;
        self.let_go();
        if errors != 0 {
            return Err(Failure::new(
                FailureCode::LockFailed,
                format!("FLASH_SR {errors:#04x}; the chip shows {observed}"),
            ));
        }
        Ok(observed)
    }

    /// Waits until the flash is idle; the error bits it ended with.
    fn wait_for_flash(
        &mut self,
        until: Instant,
        label: &str,
        report: &dyn Fn(FlashProgress),
    ) -> Result<u32, Failure> {
        let total = OPTIONS_TAKE.as_secs();
        loop {
            let status = self.look(|memory| memory.read_word_32(FLASH_SR))?;
            if status & BSY == 0 {
                return Ok(status & FLASH_ERRORS);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Failure::new(FailureCode::LockFailed, "the flash stays busy"));
            }
            // Also tells the worker that the probe is alive: an erase takes longer than a probe may be silent.
            report(FlashProgress { label: label.into(), done: total - left.as_secs().min(total), total });
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn open(&mut self, under_reset: bool) -> Result<(), Failure> {
        self.let_go();
        let first = match self.probe()?.attach_with_registry(TARGET, Permissions::default(), registry()) {
            Ok(session) => {
                self.session = Some(session);
                return Ok(());
            }
            Err(e) => self.unattached(&e),
        };
        // Firmware that sleeps deeply or took the SWD pins hides the chip; under reset it shows itself.
        if under_reset && first.code == FailureCode::NoTarget {
            match self.probe()?.attach_under_reset_with_registry(TARGET, Permissions::default(), registry()) {
                Ok(session) => {
                    self.session = Some(session);
                    return Ok(());
                }
                Err(e) => tracing::debug!(error = %chain(&e), "no chip under reset either"),
            }
        }
        Err(first)
    }

    fn session(&mut self) -> Result<&mut Session, Failure> {
        if self.session.is_none() {
            self.open(true).map_err(|f| match f.code {
                // It was there when the attempt began.
                FailureCode::NoTarget => {
                    Failure::new(FailureCode::BoardUnplugged, "no chip answers on SWD any more")
                }
                _ => f,
            })?;
        }
        self.session.as_mut().ok_or_else(|| Failure::new(FailureCode::ProbeLost, &self.selector))
    }

    fn chip(&mut self) -> Result<Chip, Failure> {
        let id = self.word(u64::from(map::DBGMCU_IDCODE_ADDRESS))?;
        let device = (id & 0xFFF) as u16;
        let mut chip =
            Chip { device, revision: (id >> 16) as u16, flash_kib: 0, rdp: 0xAA, unit: UnitId([0; 12]) };
        if u32::from(device) == map::DEV_ID_STM32F42X {
            chip.rdp = (self.word(FLASH_OPTCR)? >> 8) as u8;
            let mut size = [0; 2];
            // A read-protected chip may refuse these; the protection is then what matters.
            let read = self.read(map::FLASH_SIZE_ADDRESS, &mut size).and_then(|()| self.unit());
            match read {
                Ok(unit) => (chip.unit, chip.flash_kib) = (unit, u16::from_le_bytes(size)),
                Err(failure) if chip.rdp == 0xAA => return Err(failure),
                Err(_) => {}
            }
        }
        Ok(chip)
    }

    fn word(&mut self, address: u64) -> Result<u32, Failure> {
        self.session()?.core(0).and_then(|mut core| core.read_word_32(address)).map_err(|e| gone(&e))
    }

    fn read(&mut self, address: u32, to: &mut [u8]) -> Result<(), Failure> {
        self.session()?.core(0).and_then(|mut core| core.read(u64::from(address), to)).map_err(|e| gone(&e))
    }

    fn unit(&mut self) -> Result<UnitId, Failure> {
        let mut id = [0; 12];
        if self.session.is_some() {
            self.read(map::UID_ADDRESS, &mut id)?;
        } else {
            self.look(|memory| memory.read(u64::from(map::UID_ADDRESS), &mut id))?;
        }
        Ok(UnitId(id))
    }

    /// Stops the firmware in its reset state, where no watchdog runs and nobody writes flash.
    fn halt(&mut self) -> Result<(), Failure> {
        let halted =
            self.session()?.core(0).and_then(|mut core| core.reset_and_halt(Duration::from_millis(500)));
        halted.map(drop).map_err(|e| gone(&e))
    }

    fn equals(&mut self, address: u32, expected: &[u8]) -> Result<bool, Failure> {
        let mut buffer = vec![0; CHUNK as usize];
        // A blank or foreign chip differs in its first words: do not read the rest of it.
        let head = expected.len().min(64);
        let rest = (head..expected.len()).step_by(CHUNK as usize);
        let chunks =
            std::iter::once(0..head).chain(rest.map(|at| at..(at + CHUNK as usize).min(expected.len())));
        for range in chunks {
            let got = &mut buffer[..range.len()];
            self.read(address + range.start as u32, got)?;
            if got != &expected[range] {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a region is erased. The chip looks for itself: over SWD a megabyte takes seconds, from RAM milliseconds.
    fn is_blank(&mut self, region: Region) -> Result<bool, Failure> {
        let answer = self.session()?.core(0).and_then(|mut core| {
            let code: Vec<u8> = BLANK_CHECK.iter().flat_map(|half| half.to_le_bytes()).collect();
            let pc = core.program_counter();
            core.write(u64::from(map::RAM_BASE), &code)?;
            core.write_core_reg(RegisterId(0), region.base)?;
            core.write_core_reg(RegisterId(1), region.end())?;
            // Thumb state: the reset vector of a chip with foreign contents may have left it clear.
            core.write_core_reg(RegisterId(16), 0x0100_0000_u32)?;
            core.write_core_reg(pc, map::RAM_BASE)?;
            core.run()?;
            core.wait_for_core_halted(Duration::from_secs(2))?;
            let stopped_at: u32 = core.read_core_reg(pc)?;
            let rest: u32 = core.read_core_reg(RegisterId(2))?;
            Ok((stopped_at, rest))
        });
        let (stopped_at, rest) = answer.map_err(|e| gone(&e))?;
        let end = map::RAM_BASE + 2 * (BLANK_CHECK.len() as u32 - 1);
        if stopped_at != end {
            return Err(Failure::new(
                FailureCode::FlashFailed,
                format!("the blank check of {} stopped at {stopped_at:#010x}", place(region.base)),
            ));
        }
        Ok(rest == 0)
    }

    fn inspect(&mut self, stage_one: &StageOne) -> Result<Contents, Failure> {
        self.halt()?;
        let mut keys = false;
        for area in [map::KEY_AREA_A, map::KEY_AREA_B] {
            keys |= self.holds_keys(area)?;
        }
        let product_key = self.equals(map::KEY_AREA_B.base, stage_one.record())?;
        let mut image = true;
        for part in &stage_one.image.parts {
            image = image && self.equals(part.address, &part.data)?;
        }
        Ok(Contents { image, product_key, keys })
    }

    /// A whole header of kind 2 or 3 with its COMMIT programmed (docs/protocol.md: key areas). The MAC is under the
    /// unit's own secret, so whose keys they are only the unit can say.
    fn holds_keys(&mut self, area: Region) -> Result<bool, Failure> {
        let mut header = [0; record::HEADER_LEN];
        self.read(area.base, &mut header)?;
        let Ok(len) = record::stored_len(&header) else { return Ok(false) };
        if !matches!(header[5], 2 | 3) {
            return Ok(false);
        }
        let commit_at = len - 3 * record::MARK_LEN;
        let mut commit = [0; record::MARK_LEN];
        self.read(area.base + commit_at as u32, &mut commit)?;
        Ok(commit.iter().any(|b| *b != 0xFF))
    }

    fn flash(&mut self, stage_one: &StageOne, report: &dyn Fn(FlashProgress)) -> Result<(), Failure> {
        self.halt()?;
        let mut plan = Plan::new(stage_one);
        // A new chip is blank throughout: neighbours are looked at in one go, and one by one only if something is there.
        for span in plan.spans() {
            let all = self.is_blank(span)?;
            for (sector, blank) in plan.sectors.values_mut().filter(|(sector, _)| span.contains(sector.base))
            {
                *blank = all || sector.len < span.len && self.is_blank(*sector)?;
            }
        }
        let mut meter = Meter { total: plan.total(), ..Meter::default() };
        // What must be erased first: a chip whose power fails now has no whole record in key area B yet.
        for blank in [false, true] {
            let mut loader = self.session()?.target().flash_loader();
            let mut any = false;
            for (address, data) in plan.writes(blank) {
                loader.add_data(u64::from(*address), data).map_err(|e| refused(&e))?;
                any = true;
            }
            if !any {
                continue;
            }
            let mut options = DownloadOptions::new();
            options.skip_erase = blank;
            options.verify = true;
            options.progress = ProbeProgress::new(|event| {
                if let Some(progress) = meter.event(event) {
                    report(progress);
                }
            });
            let done = loader.commit(self.session()?, options);
            if let Err(e) = done {
                let failure = refused(&e);
                // Was it the chip, or is the board gone?
                self.let_go();
                return Err(match self.unit() {
                    Ok(_) => failure,
                    Err(why) => why,
                });
            }
        }
        for region in plan.erased_only() {
            if !self.is_blank(region)? {
                return Err(Failure::new(
                    FailureCode::VerifyFailed,
                    format!("{} is not blank after its erase", place(region.base)),
                ));
            }
        }
        // The core stands in the flash routine. Let go of there, it would run on in the new firmware on another
        // program's stack, fault, and the unit's history would begin with a fault of its own.
        self.halt()
    }

    fn unopened(&self, error: &DebugProbeError) -> Failure {
        let why = chain(error);
        let facts = format!("{}: {why}", self.selector);
        let low = why.to_lowercase();
        let busy = match error {
            DebugProbeError::ProbeCouldNotBeCreated(ProbeCreationError::NotFound) => {
                return Failure::new(FailureCode::NoProbe, &self.selector);
            }
            // USB: the interface is claimed. Black Magic over TCP: somebody else is connected, and it hung up.
            DebugProbeError::ProbeCouldNotBeCreated(ProbeCreationError::CouldNotOpen) => true,
            _ => low.contains("busy") || wire_is_cut(error),
        };
        match os_error(error) {
            _ if busy => Failure::new(FailureCode::ProbeBusy, facts),
            Some(rustix::io::Errno::BUSY) => Failure::new(FailureCode::ProbeBusy, facts),
            Some(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Failure::new(
                FailureCode::NoProbe,
                format!("{facts}; this user may not use it: install the udev rules 99-keywright.rules"),
            ),
            _ if low.contains("permission") && low.contains("denied") => {
                Failure::new(FailureCode::NoProbe, facts)
            }
            _ if low.contains("not found") => Failure::new(FailureCode::NoProbe, facts),
            _ => Failure::new(FailureCode::ProbeLost, facts),
        }
    }

    fn unattached(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        if wire_is_cut(error) {
            Failure::new(FailureCode::ProbeLost, format!("{}: {}", self.selector, chain(error)))
        } else {
            Failure::new(FailureCode::NoTarget, chain(error))
        }
    }
}

/// An error and everything below it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(e) = next {
        let part = e.to_string();
        if !text.contains(&part) {
            text = format!("{}: {part}", text.trim_end_matches('.'));
        }
        next = e.source();
    }
    text.trim_end_matches('.').to_owned()
}

fn io_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut next = Some(error);
    while let Some(e) = next {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return Some(io);
        }
        next = e.source();
    }
    None
}

fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<rustix::io::Errno> {
    io_error(error).and_then(|io| io.raw_os_error()).map(rustix::io::Errno::from_raw_os_error)
}

/// The connection to the probe itself broke, rather than the one from probe to chip. probe-rs keeps some of these
/// errors to itself, so their words count as well as their types.
fn wire_is_cut(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut, UnexpectedEof,
    };
    let kind = io_error(error).map(std::io::Error::kind);
    if matches!(
        kind,
        Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut | UnexpectedEof)
    ) {
        return true;
    }
    let low = chain(error).to_lowercase();
    [
        "broken pipe",
        "connection reset",
        "fill whole buffer",
        "disconnected",
        "no such device",
        "usb communication",
    ]
    .iter()
    .any(|words| low.contains(words))
}

/// A failure in the middle of work on a chip that answered before.
fn gone(error: &(dyn std::error::Error + 'static)) -> Failure {
    let code = if wire_is_cut(error) { FailureCode::ProbeLost } else { FailureCode::BoardUnplugged };
    Failure::new(code, chain(error))
}

fn refused(error: &FlashError) -> Failure {
    if wire_is_cut(error) {
        return Failure::new(FailureCode::ProbeLost, chain(error));
    }
    match error {
        FlashError::Verify => Failure::new(FailureCode::VerifyFailed, ""),
        FlashError::EraseFailed { sector_address, .. } => Failure::new(
            FailureCode::FlashFailed,
            format!("erasing {} at {sector_address:#010x}: {}", place(*sector_address as u32), chain(error)),
        ),
        FlashError::PageWrite { page_address, .. } => Failure::new(
            FailureCode::FlashFailed,
            format!("writing {} at {page_address:#010x}: {}", place(*page_address as u32), chain(error)),
        ),
        other => Failure::new(FailureCode::FlashFailed, chain(other)),
    }
}

/// What lies at an address, for people.
fn place(address: u32) -> &'static str {
    [
        (map::BOOT, "boot"),
        (map::KEY_AREA_A, "key area A"),
        (map::KEY_AREA_B, "product key"),
        (map::SLOT_A, "app"),
        (map::BOOT_JOURNAL[0], "boot journal"),
        (map::BOOT_JOURNAL[1], "boot journal"),
        (map::TRUST_STORE[0], "trust store"),
        (map::TRUST_STORE[1], "trust store"),
    ]
    .into_iter()
    .find(|(region, _)| region.contains(address))
    .map_or("flash", |(_, name)| name)
}

/// Turns probe-rs's events, which carry sizes in ascending order of addresses, into named progress.
#[derive(Default)]
struct Meter {
    sectors: Vec<u32>,
    pages: Vec<u32>,
    total: u64,
    done: u64,
    within: usize,
}

impl Meter {
    fn event(&mut self, event: ProgressEvent) -> Option<FlashProgress> {
        match event {
            ProgressEvent::FlashLayoutReady { flash_layout } => {
                (self.sectors, self.pages) = (Vec::new(), Vec::new());
                for layout in &flash_layout {
                    self.take(layout);
                }
                None
            }
            ProgressEvent::Started(_) => {
                self.within = 0;
                None
            }
            ProgressEvent::Progress { operation, size, .. } => {
                let (what, list) = match operation {
                    ProgressOperation::Erase => ("erasing", &self.sectors),
                    ProgressOperation::Program => ("writing", &self.pages),
                    ProgressOperation::Verify => ("reading back", &self.pages),
                    ProgressOperation::Fill => return None,
                };
                // probe-rs reports sizes, not addresses: the n-th report is the n-th entry.
                let label = format!("{what} {}", list.get(self.within).map_or("flash", |at| place(*at)));
                self.within += 1;
                self.done += size;
                Some(FlashProgress { label, done: self.done.min(self.total), total: self.total })
            }
            ProgressEvent::AddProgressBar { .. }
            | ProgressEvent::Failed(_)
            | ProgressEvent::Finished(_)
            | ProgressEvent::DiagnosticMessage { .. } => None,
        }
    }

    fn take(&mut self, layout: &FlashLayout) {
        self.sectors.extend(layout.sectors().iter().map(|s| s.address() as u32));
        self.pages.extend(layout.pages().iter().map(|p| p.address() as u32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn no_probe_and_nobody_listening() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Bound and dropped: nothing listens there now.
        let mut probe = SwdProbe::new(&format!("1d50:6018:127.0.0.1:{port}"));
        let failure = probe.attach().unwrap_err();
        println!("{failure}");
        assert_eq!(failure.code, FailureCode::NoProbe);
        let mut probe = SwdProbe::new("0483:374b:NOSUCHPROBE");
        assert_eq!(probe.attach().unwrap_err().code, FailureCode::NoProbe);
        let mut probe = SwdProbe::new("stlink");
        assert_eq!(probe.presence().unwrap_err().code, FailureCode::NoProbe);
    }

    #[test]
    fn a_probe_in_use_hangs_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server =
            std::thread::spawn(move || (0..SETTLE.tries).for_each(|_| drop(listener.accept().unwrap())));
        let failure = SwdProbe::new(&format!("1d50:6018:127.0.0.1:{port}")).attach().unwrap_err();
        println!("{failure}");
        assert_eq!(failure.code, FailureCode::ProbeBusy);
        server.join().unwrap();
    }

    #[test]
    fn a_probe_thread_that_dies_is_replaced() {
        let mut probe = SwdProbe::new("1d50:6018:127.0.0.1:1");
        let died: Result<(), _> = probe.call(&mut |_| {}, |_, _| panic!("as probe-rs does on a torn answer"));
        assert_eq!(died.unwrap_err().code, FailureCode::ProbeLost);
        assert_eq!(probe.call(&mut |_| {}, |_, _| Ok(7)).unwrap(), 7);
    }

    #[test]
    fn the_plan_covers_what_stage_one_answers_for() {
        let part = |name: &str, region: Region, len: usize| crate::image::Part {
            name: name.into(),
            address: region.base,
            data: vec![0x5A; len],
        };
        let image = crate::image::CommonImage {
            sha256: String::new(),
            model: String::new(),
            version: String::new(),
            parts: vec![part("boot", map::BOOT, 20 * 1024), part("app", map::SLOT_A, 130 * 1024)],
        };
        let mut plan = Plan::new(&StageOne::new(std::sync::Arc::new(image), vec![1; 400]));
        assert_eq!(plan.sectors.keys().copied().collect::<Vec<_>>(), [0, 1, 3, 4, 5, 6, 12, 13, 14, 15, 16]);
        assert_eq!(plan.writes(true).count(), 0, "nothing is known to be blank yet");
        assert_eq!(plan.erased_only().len(), 6);
        for (_, blank) in plan.sectors.values_mut() {
            *blank = true;
        }
        let bytes: usize = plan.writes(true).map(|(_, data)| data.len()).sum();
        assert_eq!(bytes, (20 + 130) * 1024 + 400, "a blank chip is only written");
        assert!(plan.writes(false).next().is_none() && plan.erased_only().is_empty());
        assert_eq!(plan.total(), 2 * 151 * 1024);
        // A record in the other key area: only that sector is erased.
        plan.sectors.get_mut(&4).unwrap().1 = false;
        assert_eq!(plan.erased_only(), [map::KEY_AREA_A]);
        assert_eq!(plan.writes(false).collect::<Vec<_>>(), [&(map::KEY_AREA_A.base, vec![0xFF; 16])]);
    }

    #[test]
    fn places_have_names() {
        assert_eq!(place(map::BOOT.base), "boot");
        assert_eq!(place(map::KEY_AREA_B.base), "product key");
        assert_eq!(place(map::SLOT_A.base + 4096), "app");
        assert_eq!(place(map::TRUST_STORE[1].base), "trust store");
    }
}

//! One board: chip, power switch, reset pin and serial line, in virtual time.
//!
//! Invariants:
//! - Virtual time is core cycles at 16 MHz and moves only inside `run_*`,
//!   `debug_slice` and stalls; the same calls give the same run.
//! - The core executes nothing without power, with NRST held, or halted.
//! - No instruction of a bank executes while that bank is written.
//! - Whoever cuts power gets the flash as it was at that instant, torn if need be.
//! - At read protection level 1 no debugger ever reads the flash. From its first access to the bus on nobody does, the core
//!   included, until the power has gone (RM0090 §3.6.3: no access to flash while the debug feature is connected; its note on
//!   the power-on reset). Silicon may be milder in what counts as connected; a station that copes with this copes with it.

use crate::debug::{
    AHB_AP_IDR, CDBGPWRUPREQ, CSW_FIXED, DEMCR_KEPT, DEMCR_TRCENA, DPIDR, DapError, DapRegisters, DebugUnit,
    VC_CORERESET, VC_HARDERR, coresight, dfsr, dhcsr,
};
use crate::fast::Fast;
use crate::flash::{
    ArmedCut, FLASH_BASE, FLASH_LEN, FlashController, FlashStore, FlashTiming, OptionBytes, ReadProtection,
};
use crate::periph::{CORE_HZ, FlashWrites, Registers, ResetCause, Shared, Soc};
use crate::rng::SplitMix64;
use crate::serial::SerialLine;
use crate::uid::Uid;
use rsemu::core::device::{Device, ResetKind};
use rsemu::core::space::{AddressSpace, MappingId, MemAttrs, Perms, RamStore, Region, RomStore, RomWrite};
use rsemu::core::value::Width;
use rsemu::cpu::arm::v7m::sys::Exception;
use rsemu::cpu::arm::v7m::{ArmV7m, Config};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// DBGMCU_IDCODE of an STM32F42x/F43x, revision 3 (RM0090 §38.6.1).
pub const IDCODE_F429: u32 = 0x2003_6419;
/// Main SRAM, SRAM1 to SRAM3.
pub const SRAM_BASE: u32 = 0x2000_0000;
/// Bytes of main SRAM.
pub const SRAM_LEN: u32 = 192 * 1024;
/// Core-coupled memory.
pub const CCM_BASE: u32 = 0x1000_0000;
/// Bytes of core-coupled memory.
pub const CCM_LEN: u32 = 64 * 1024;
/// The OTP area and the factory words behind it.
const FACTORY_BASE: u32 = 0x1fff_7800;
const FACTORY_LEN: usize = 0x230;
const UID_OFFSET: usize = 0x210;
const FLASH_SIZE_OFFSET: usize = 0x222;

/// Instructions between looks at things that are rarely true.
const BURST: u32 = 32;

/// What makes one board differ from another.
#[derive(Debug, Clone)]
pub struct BoardConfig {
    /// The chip's unique id.
    pub uid: Uid,
    /// What DBGMCU_IDCODE shows; another value is a wrong chip on the board.
    pub idcode: u32,
    /// What the flash size word says, in KiB. The array always has 2048.
    pub flash_kib: u16,
    /// Flash operation times.
    pub timing: FlashTiming,
    /// Seeds the chip's RNG, the RAM's power-on content and torn cells.
    pub seed: u64,
}

impl BoardConfig {
    /// Board `n` of the family `seed`: an honest F429 with fast flash.
    pub fn new(seed: u64, n: u32) -> BoardConfig {
        BoardConfig {
            uid: Uid::from_seed(seed, n),
            idcode: IDCODE_F429,
            flash_kib: 2048,
            timing: FlashTiming::FAST,
            seed: SplitMix64::new(seed ^ u64::from(n) << 32).next_u64(),
        }
    }
}

/// What a board is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activity {
    /// No power.
    Off,
    /// NRST is held low.
    InReset,
    /// A debugger has halted the core.
    Halted,
    /// The core is locked up: two faults in a row, as with blank flash.
    LockedUp,
    /// The core sleeps and nothing is under way.
    Idle,
    /// The core runs, or something it started is under way.
    Busy,
}

/// An emulated STM32F429ZI board.
#[derive(Debug)]
pub struct Board {
    config: BoardConfig,
    store: Arc<FlashStore>,
    line: Arc<SerialLine>,
    shared: Arc<Shared>,
    space: Arc<AddressSpace>,
    cpu: ArmV7m,
    fast: Fast,
    sram: Arc<RamStore>,
    ccm: Arc<RamStore>,
    debug: DebugUnit,
    dap: DapRegisters,
    now: u64,
    deadline: u64,
    powered: bool,
    nrst_held: bool,
    boots: u64,
    resets: Vec<ResetCause>,
    stop_at: Option<u32>,
    stopped: bool,
    instructions_left: Option<u64>,
    /// The array's two mappings: at zero and at its own address.
    flash_maps: [MappingId; 2],
    /// Protection level in force.
    level: ReadProtection,
    /// A debugger has been here at level 1.
    shut: bool,
}

impl Board {
    /// A board around `store`, without power.
    pub fn new(config: BoardConfig, store: Arc<FlashStore>) -> Board {
        let line = Arc::new(SerialLine::default());
        let controller = FlashController::new(Arc::clone(&store), config.timing);
        let shared = Arc::new(Shared::new(Soc::new(controller, Arc::clone(&line), config.idcode)));
        let sram = Arc::new(RamStore::new(u64::from(SRAM_LEN)));
        let ccm = Arc::new(RamStore::new(u64::from(CCM_LEN)));

        let mut factory = vec![0xff; FACTORY_LEN];
        factory[UID_OFFSET..UID_OFFSET + 12].copy_from_slice(&config.uid.0);
        factory[FLASH_SIZE_OFFSET..FLASH_SIZE_OFFSET + 2].copy_from_slice(&config.flash_kib.to_le_bytes());
        let factory = Arc::new(RomStore::new(factory));

        let registers = |base: u32, len: u64, name: &str| {
            Region::io(name, len, Arc::new(Registers { shared: Arc::clone(&shared), base }))
        };
        let space = AddressSpace::new("bus", 32);
        let flash_maps;
        {
            let mut map = space.topology();
            let mut put = |region: Region, base: u32, perms: Perms| {
                map.map_with_perms(region, u64::from(base), perms).expect("the memory map does not overlap")
            };
            // BOOT0 is low: the array also answers at zero (RM0090 §2.4).
            flash_maps = [0, FLASH_BASE]
                .map(|base| put(Region::ram("flash", Arc::clone(store.array())), base, Perms::RX));
            let writes = Arc::new(FlashWrites { shared: Arc::clone(&shared) });
            put(Region::io("flash-writes", u64::from(FLASH_LEN), writes), FLASH_BASE, Perms::WRITE);
            put(Region::ram("sram", Arc::clone(&sram)), SRAM_BASE, Perms::RWX);
            put(Region::ram("ccm", Arc::clone(&ccm)), CCM_BASE, Perms::RW);
            put(Region::rom("factory", factory, RomWrite::Fault), FACTORY_BASE, Perms::READ);
            put(registers(0x4000_0000, 0x8_0000, "peripherals"), 0x4000_0000, Perms::RW);
            put(registers(0x5006_0800, 0x400, "rng"), 0x5006_0800, Perms::RW);
            put(registers(0xe004_2000, 0x400, "dbgmcu"), 0xe004_2000, Perms::RW);
        }
        let space = Arc::new(space);
        let cpu = ArmV7m::new(Config::CORTEX_M4F.with_priority_bits(4));
        cpu.attach_space(Arc::clone(&space));
        let level = store.options().protection();
        let fast = Fast::new(Arc::clone(&store), Arc::clone(&sram), Arc::clone(&ccm));
        Board {
            config,
            store,
            line,
            shared,
            space,
            cpu,
            fast,
            sram,
            ccm,
            debug: DebugUnit::default(),
            dap: DapRegisters::default(),
            now: 0,
            deadline: 0,
            powered: false,
            nrst_held: false,
            boots: 0,
            resets: Vec::new(),
            stop_at: None,
            stopped: false,
            instructions_left: None,
            flash_maps,
            level,
            shut: false,
        }
    }

    /// The chip's unique id.
    pub fn uid(&self) -> Uid {
        self.config.uid
    }

    /// The flash and option bytes; they outlive the board.
    pub fn flash(&self) -> &Arc<FlashStore> {
        &self.store
    }

    /// The host's end of the serial line.
    pub fn serial(&self) -> &Arc<SerialLine> {
        &self.line
    }

    /// Virtual time since the board was made.
    pub fn elapsed(&self) -> Duration {
        duration(self.now)
    }

    /// Virtual time in core cycles.
    pub fn cycles(&self) -> u64 {
        self.now
    }

    /// Every reset so far and its cause, first one first.
    pub fn resets(&self) -> &[ResetCause] {
        &self.resets
    }

    /// Whether the board has power.
    pub fn is_powered(&self) -> bool {
        self.powered
    }

    /// The core's program counter.
    pub fn pc(&self) -> u32 {
        self.cpu.pc()
    }

    /// A core register, 0 to 15.
    pub fn register(&self, index: u8) -> u32 {
        self.cpu.reg(index)
    }

    /// Whether nothing will happen on the board until someone acts on it.
    pub(crate) fn at_rest(&self) -> bool {
        !self.powered || self.debug.halted && !self.shared.soc().active()
    }

    /// What the board is doing now.
    pub fn activity(&self) -> Activity {
        if !self.powered {
            Activity::Off
        } else if self.nrst_held {
            Activity::InReset
        } else if self.debug.halted {
            Activity::Halted
        } else if self.shared.soc().active() {
            Activity::Busy
        } else if self.cpu.is_locked_up() {
            Activity::LockedUp
        } else if self.cpu.is_asleep() {
            Activity::Idle
        } else {
            Activity::Busy
        }
    }

    /// When, in virtual time, the board will next do something by itself. Input
    /// from outside comes on top.
    pub fn next_event(&self) -> Duration {
        let tick = if self.powered && self.cpu.is_asleep() {
            self.now.saturating_add(self.cycles_to_tick())
        } else {
            u64::MAX
        };
        let at = self.shared.soc().deadline().min(tick);
        if at == u64::MAX { Duration::MAX } else { duration(at) }
    }

    /// Fill `buf` from RAM: SRAM or CCM, at its bus address. Works in any state,
    /// for measuring painted stacks.
    ///
    /// # Errors
    /// The range is not inside one of the two memories.
    pub fn read_ram(&self, address: u32, buf: &mut [u8]) -> Result<(), BoardError> {
        let (store, base) =
            if address >= SRAM_BASE { (&self.sram, SRAM_BASE) } else { (&self.ccm, CCM_BASE) };
        let offset = address.checked_sub(base).ok_or(BoardError::NotRam { address })?;
        store.read_at(u64::from(offset), buf).map_err(|_| BoardError::NotRam { address })
    }

    /// `len` bytes of flash from bus address `address`, whatever protection says.
    ///
    /// # Errors
    /// The range is not inside the flash.
    pub fn read_flash(&self, address: u32, len: u32) -> Result<Vec<u8>, BoardError> {
        let offset = flash_range(address, len)?;
        let mut bytes = vec![0; len as usize];
        self.store.read(offset, &mut bytes);
        Ok(bytes)
    }

    /// Overwrite flash at bus address `address`, bypassing every rule.
    ///
    /// # Errors
    /// The range is not inside the flash.
    pub fn tamper(&mut self, address: u32, bytes: &[u8]) -> Result<(), BoardError> {
        let offset = flash_range(address, bytes.len() as u32)?;
        self.store.tamper(offset, bytes);
        Ok(())
    }

    /// Flash operations (programs, erases, option programming) started so far.
    pub fn flash_op_count(&self) -> u64 {
        self.shared.soc().flash.count()
    }

    /// Choose how long flash operations take from now on.
    pub fn set_flash_timing(&mut self, timing: FlashTiming) {
        self.shared.soc().flash.set_timing(timing);
    }

    /// The protection level in force (loaded at the last reset).
    pub fn read_protection(&self) -> ReadProtection {
        self.level
    }

    /// Whether a debugger has closed the flash: nothing runs from it until the power has gone.
    pub fn is_shut(&self) -> bool {
        self.shut
    }

    /// Deliver the board with another protection level, as a used or foreign
    /// chip would come. In force at once.
    pub fn set_read_protection(&mut self, level: ReadProtection) {
        let options = self.store.options().with_protection(level);
        self.set_option_bytes(options);
    }

    /// Deliver the board with other option bytes. In force at once.
    pub fn set_option_bytes(&mut self, options: OptionBytes) {
        self.store.set_options(options);
        let torn = self.torn_seed();
        self.shared.soc().flash.reset(self.now, torn);
        self.load_protection();
    }

    /// Put another chip's identity in DBGMCU_IDCODE.
    pub fn set_idcode(&mut self, idcode: u32) {
        self.config.idcode = idcode;
        self.shared.soc().set_idcode(idcode);
    }

    // ---- power and reset --------------------------------------------------

    /// Take the power away at this instant. A flash operation under way is left
    /// part-done; RAM is gone; a cut that was armed is disarmed.
    pub fn cut_power(&mut self) {
        if !self.powered {
            return;
        }
        let torn = self.torn_seed();
        {
            let mut soc = self.shared.soc();
            soc.flash.interrupt(self.now, torn);
            soc.flash.arm(None);
            soc.power_lost = false;
        }
        self.powered = false;
        self.debug = DebugUnit::default();
        self.dap = DapRegisters::default();
        self.set_shut(false);
    }

    /// Cut the power inside the `k`-th flash operation from now (1 is the next),
    /// `progress` (0 to 1) of the way through it; `seed` says which cells it had reached.
    pub fn cut_power_at_flash_op(&mut self, k: u64, progress: f64, seed: u64) {
        self.shared.soc().flash.arm(Some(ArmedCut { after: k.max(1), progress, seed }));
    }

    /// The cut that is waiting, if one is.
    pub fn armed_cut(&self) -> Option<ArmedCut> {
        self.shared.soc().flash.armed()
    }

    /// Give the board power. RAM comes up as noise and the RNG with a fresh stream.
    pub fn power_on(&mut self) {
        if self.powered {
            return;
        }
        self.boots += 1;
        let mut noise = SplitMix64::new(self.config.seed ^ self.boots);
        for store in [&self.sram, &self.ccm] {
            let bytes: Vec<u8> = (0..store.len() / 8).flat_map(|_| noise.next_u64().to_le_bytes()).collect();
            store.write_at(0, &bytes).expect("filling the whole store");
        }
        let stream = Sha256::new_with_prefix(b"virtual-board rng")
            .chain_update(self.config.seed.to_le_bytes())
            .chain_update(self.config.uid.0)
            .chain_update(self.boots.to_le_bytes())
            .finalize();
        self.shared.soc().reseed(stream.into());
        self.powered = true;
        self.restart(ResetCause::PowerOn);
    }

    /// Press and release the reset button.
    pub fn reset(&mut self) {
        if self.powered {
            self.restart(ResetCause::Pin);
        }
    }

    /// Hold NRST low, or let it go.
    pub fn set_nrst(&mut self, held: bool) {
        if self.nrst_held != held {
            self.nrst_held = held;
            if self.powered {
                self.restart(ResetCause::Pin);
            }
        }
    }

    fn torn_seed(&self) -> u64 {
        SplitMix64::new(self.config.seed ^ self.now).next_u64()
    }

    fn restart(&mut self, cause: ResetCause) {
        let torn = self.torn_seed();
        self.shared.soc().reset(cause, torn);
        self.load_protection();
        let trace = self.cpu.with_sys(|sys| sys.demcr);
        Device::reset(&self.cpu, ResetKind::Cold);
        self.resets.push(cause);
        self.debug.reset_seen = true;
        self.debug.halted = false;
        if cause != ResetCause::PowerOn {
            self.cpu.with_sys(|sys| sys.demcr = trace);
        }
        self.shared.attention.store(true, Ordering::Relaxed);
        if !self.nrst_held {
            // The vector fetch; a debugger's vector catch stops before the first instruction.
            self.now += self.step_core();
            // The catch needs the debug domain, not C_DEBUGEN: debuggers that connect
            // under reset arm it first and enable debugging afterwards.
            let debug_powered = self.dap.ctrl & CDBGPWRUPREQ != 0;
            if (self.debug.enabled() || debug_powered) && self.debug.demcr & VC_CORERESET != 0 {
                self.halt(dfsr::VCATCH);
            }
        }
        self.look();
    }

    /// The option bytes were loaded: what do they close?
    fn load_protection(&mut self) {
        self.level = self.shared.soc().flash.loaded_options().protection();
        let connected = self.debug.enabled() || self.dap.ctrl & CDBGPWRUPREQ != 0;
        self.set_shut(self.level == ReadProtection::Level1 && (self.shut || connected));
    }

    fn set_shut(&mut self, shut: bool) {
        if self.shut == shut {
            return;
        }
        self.shut = shut;
        self.shared.soc().flash.set_shut(shut);
        let perms = if shut { Perms::NONE } else { Perms::RX };
        let mut map = self.space.topology();
        for id in self.flash_maps {
            map.reprotect(id, perms).expect("the mapping is ours");
        }
    }

    // ---- running ----------------------------------------------------------

    /// Run for `span` of virtual time, or until power is lost or a stop address is reached.
    pub fn run_for(&mut self, span: Duration) {
        let cycles = (span.as_nanos() * u128::from(CORE_HZ) / 1_000_000_000) as u64;
        self.run_cycles(cycles);
    }

    /// Run for `cycles` core cycles; see [`run_for`](Self::run_for).
    pub fn run_cycles(&mut self, cycles: u64) {
        let end = self.now.saturating_add(cycles);
        self.run_to(end);
    }

    /// Run until `done` says so, looking every 100 µs of virtual time. False if
    /// `limit` of virtual time passed first.
    pub fn run_until(&mut self, mut done: impl FnMut(&mut Board) -> bool, limit: Duration) -> bool {
        let end = self.elapsed() + limit;
        loop {
            if done(self) {
                return true;
            }
            if self.elapsed() >= end {
                return false;
            }
            self.run_cycles(CORE_HZ / 10_000);
        }
    }

    /// Run until the next instruction is the one at `address`. False if `limit`
    /// of virtual time passed first.
    pub fn run_to_address(&mut self, address: u32, limit: Duration) -> bool {
        self.stop_at = Some(address & !1);
        self.stopped = false;
        self.run_for(limit);
        self.stop_at = None;
        std::mem::take(&mut self.stopped)
    }

    /// Execute exactly `count` instructions (exception entries included), or as
    /// many as `limit` of virtual time allows. Returns how many were executed.
    pub fn run_instructions(&mut self, count: u64, limit: Duration) -> u64 {
        self.instructions_left = Some(count);
        self.run_for(limit);
        count - self.instructions_left.take().unwrap_or(0)
    }

    fn run_to(&mut self, end: u64) {
        self.shared.attention.store(true, Ordering::Relaxed);
        while self.now < end && !self.stopped && self.instructions_left != Some(0) {
            if self.now >= self.deadline || self.shared.attention.load(Ordering::Relaxed) {
                self.look();
            }
            let limit = end.min(self.deadline);
            if !self.powered || self.nrst_held || self.debug.halted {
                self.move_to(limit);
            } else if self.stalled() {
                let done = self.shared.soc().flash.busy_until().unwrap_or(self.now);
                self.pass(limit.min(done.max(self.now + 1)));
            } else if self.take_poll() {
                // Software spins on BSY. Time up to the end of the operation is
                // spent in one step instead of thousands of identical reads.
                let done = self.shared.soc().flash.busy_until().unwrap_or(self.now);
                self.pass(
                    limit.min(done).min(self.now.saturating_add(self.cycles_to_tick())).max(self.now + 1),
                );
            } else if self.cpu.is_locked_up() {
                self.pass(limit); // Only a reset gets it out.
            } else if self.cpu.is_asleep() && !self.wakeful() {
                self.pass(limit.min(self.now.saturating_add(self.cycles_to_tick())));
            } else {
                self.execute(limit);
            }
            if self.cpu.reset_requested() {
                self.cpu.clear_reset_request();
                self.restart(ResetCause::Software);
            }
        }
    }

    /// Look at the peripherals: what came due, what comes next, who interrupts.
    fn look(&mut self) {
        self.shared.now.store(self.now, Ordering::Relaxed);
        self.shared.attention.store(false, Ordering::Relaxed);
        let mut soc = self.shared.soc();
        if !self.powered {
            self.deadline = u64::MAX;
            return;
        }
        let expired = soc.advance();
        let lost = soc.power_lost;
        soc.set_halted(self.debug.halted);
        let irqs = soc.irqs();
        self.deadline = soc.deadline();
        drop(soc);
        for (irq, level) in irqs {
            self.cpu.set_irq(irq, level);
        }
        if lost {
            self.cut_power();
        } else if expired {
            self.restart(ResetCause::Watchdog);
        }
    }

    fn take_poll(&mut self) -> bool {
        std::mem::take(&mut self.shared.soc().polling_busy)
    }

    /// Whether the core waits for the bank its next instruction is in.
    fn stalled(&self) -> bool {
        if self.deadline == u64::MAX {
            return false;
        }
        let pc = self.cpu.pc();
        let offset = if pc < FLASH_LEN { pc } else { pc.wrapping_sub(FLASH_BASE) };
        offset < FLASH_LEN && self.shared.soc().flash.stalls(offset)
    }

    fn wakeful(&self) -> bool {
        // A level wakes the core only through an enabled vector.
        let enabled = |irq: u16| self.cpu.with_sys(|sys| sys.is_enabled(Exception(irq + 16)));
        self.shared.soc().irqs().iter().any(|(irq, level)| *level && enabled(*irq))
            || self.cpu.with_sys(|sys| sys.highest_pending().is_some())
    }

    /// Cycles until SysTick reaches zero, if it counts.
    fn cycles_to_tick(&self) -> u64 {
        self.cpu.with_sys(|sys| match (sys.syst_csr & 1, sys.syst_rvr) {
            (0, _) | (_, 0) => u64::MAX,
            _ => u64::from(match sys.syst_cvr & 0xff_ffff {
                0 => sys.syst_rvr + 1,
                left => left,
            }),
        })
    }

    fn move_to(&mut self, at: u64) {
        self.now = at.max(self.now);
        self.shared.now.store(self.now, Ordering::Relaxed);
    }

    /// Let time pass without executing, the core's own counters included.
    fn pass(&mut self, at: u64) {
        let cycles = at - self.now;
        self.cpu.with_sys(|sys| {
            sys.tick_cyccnt(cycles);
            if sys.tick_systick(cycles) && sys.syst_csr & 2 != 0 {
                sys.set_pending(Exception::SYSTICK, true);
            }
        });
        self.move_to(at);
    }

    /// One step of the core, and the repair of its exception entry: rsemu 0.0.7 clears ITSTATE in the stacked
    /// xPSR, so an interrupt inside an IT block would make the rest of the block unconditional on return
    /// (ARM DDI 0403 B1.5.6 stacks it). Exception entry is a step of its own, so the state before it is what
    /// belongs on the stack.
    fn step_core(&mut self) -> u64 {
        const IT: u32 = 0x0600_fc00;
        const STACKED_XPSR: u32 = 28;
        let before = self.cpu.xpsr();
        if before & IT == 0 {
            return self.cpu.step();
        }
        let sp = self.cpu.reg(13);
        let cycles = self.cpu.step();
        let entered = self.cpu.xpsr() & 0x1ff != before & 0x1ff && self.cpu.reg(13) < sp;
        if entered {
            let at = u64::from(self.cpu.reg(13).wrapping_add(STACKED_XPSR));
            if let Ok(stacked) = self.space.read(at, Width::U32, MemAttrs::DEFAULT) {
                let whole = stacked | u64::from(before & IT);
                // A frame that cannot be written was lost by the entry already, which reported it.
                let _ = self.space.write(at, Width::U32, whole, MemAttrs::DEFAULT);
            }
        }
        cycles
    }

    fn execute(&mut self, limit: u64) {
        let watched = self.debug.enabled() || self.stop_at.is_some() || self.instructions_left.is_some();
        if !watched && !self.shut && self.shared.soc().flash.busy_until().is_none() {
            return self.execute_fast(limit);
        }
        let mut burst = BURST;
        while self.now < limit && burst > 0 {
            burst -= 1;
            if watched && !self.may_execute() {
                return;
            }
            self.shared.now.store(self.now, Ordering::Relaxed);
            self.now += self.step_core();
            if let Some(left) = &mut self.instructions_left {
                *left -= 1;
                if *left == 0 {
                    return;
                }
            }
            if watched && self.debug.demcr & VC_HARDERR != 0 && self.cpu.xpsr() & 0x1ff == 3 {
                self.halt(dfsr::VCATCH);
                return;
            }
            if self.shared.attention.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    /// The same, when nothing can come between two plain instructions. What is not plain is a step of the library's core.
    fn execute_fast(&mut self, limit: u64) {
        let mut burst = BURST;
        while self.now < limit && burst > 0 {
            burst -= 1;
            self.shared.now.store(self.now, Ordering::Relaxed);
            self.now += self.step_core();
            if self.shared.attention.load(Ordering::Relaxed) || self.now >= limit {
                return;
            }
            match self.fast.run(&self.cpu, limit - self.now) {
                Some(cycles) => self.now += cycles,
                None => return,
            }
        }
    }

    fn may_execute(&mut self) -> bool {
        let pc = self.cpu.pc();
        if self.stop_at == Some(pc) {
            self.stopped = true;
            return false;
        }
        if self.debug.enabled() {
            if self.debug.breaks_at(pc) || self.is_bkpt(pc) {
                self.halt(dfsr::BKPT);
                return false;
            }
            self.debug.retired = true;
        }
        true
    }

    fn is_bkpt(&self, pc: u32) -> bool {
        matches!(self.space.read(u64::from(pc), Width::U16, MemAttrs::DEBUG), Ok(op) if op & 0xff00 == 0xbe00)
    }

    // ---- halting debug ----------------------------------------------------

    fn halt(&mut self, reason: u32) {
        if self.cpu.is_asleep() || self.cpu.is_locked_up() {
            // Only a reset sequence leaves these states in the emulated core, so
            // run one and put back everything it touched.
            let regs = self.cpu.regs();
            let sys = self.cpu.with_sys(|sys| sys.clone());
            Device::reset(&self.cpu, ResetKind::Warm);
            self.cpu.step();
            self.cpu.with_sys(|s| *s = sys);
            self.cpu.set_regs(regs);
        }
        self.debug.halted = true;
        self.debug.dfsr |= reason;
        self.shared.attention.store(true, Ordering::Relaxed);
    }

    fn resume(&mut self) {
        self.debug.halted = false;
        self.shared.attention.store(true, Ordering::Relaxed);
    }

    fn step_one(&mut self) {
        self.debug.halted = false;
        self.look();
        if self.debug.halted || !self.powered {
            return;
        }
        let masked = self.debug.control & dhcsr::C_MASKINTS != 0 && !self.cpu.regs().primask;
        let cpsid =
            masked && self.space.read(u64::from(self.cpu.pc()), Width::U16, MemAttrs::DEBUG) == Ok(0xb672);
        let set_primask = |cpu: &ArmV7m, on| {
            let mut regs = cpu.regs();
            regs.primask = on;
            cpu.set_regs(regs);
        };
        if masked {
            set_primask(&self.cpu, true);
        }
        // One instruction, after any wait for the flash it sits in.
        let pc = self.cpu.pc();
        if self.is_bkpt(pc) {
            self.halt(dfsr::BKPT);
        } else {
            while self.powered && self.stalled() {
                let done = self.shared.soc().flash.busy_until().unwrap_or(self.now);
                self.pass(self.deadline.min(done.max(self.now + 1)));
                self.look();
            }
            if self.powered {
                self.shared.now.store(self.now, Ordering::Relaxed);
                self.now += self.step_core();
                self.debug.retired = true;
                self.halt(dfsr::HALTED);
            }
        }
        if masked && !cpsid {
            set_primask(&self.cpu, false);
        }
        self.look();
    }

    fn dhcsr(&mut self) -> u32 {
        let d = &mut self.debug;
        let mut value = d.control | dhcsr::S_REGRDY;
        if d.halted {
            value |= dhcsr::S_HALT | dhcsr::C_HALT;
        } else {
            if self.cpu.is_asleep() {
                value |= dhcsr::S_SLEEP;
            }
            if self.cpu.is_locked_up() {
                value |= dhcsr::S_LOCKUP;
            }
        }
        if std::mem::take(&mut d.retired) {
            value |= dhcsr::S_RETIRE_ST;
        }
        if std::mem::take(&mut d.reset_seen) {
            value |= dhcsr::S_RESET_ST;
        }
        value
    }

    fn write_dhcsr(&mut self, value: u32) {
        if value & 0xffff_0000 != dhcsr::KEY {
            return;
        }
        let enabling = !self.debug.enabled();
        self.debug.control = value & (dhcsr::C_DEBUGEN | dhcsr::C_MASKINTS);
        if value & dhcsr::C_DEBUGEN == 0 {
            self.debug.control = 0;
            self.resume();
        } else if value & dhcsr::C_HALT != 0 {
            if !self.debug.halted && !self.nrst_held {
                self.halt(dfsr::HALTED);
            }
        } else if self.debug.halted && !enabling {
            if value & dhcsr::C_STEP != 0 { self.step_one() } else { self.resume() }
        }
        self.look();
    }

    fn core_register(&self, select: u32) -> u32 {
        let regs = self.cpu.regs();
        match select {
            n @ 0..=15 => regs.r[n as usize],
            16 => regs.xpsr,
            17 => regs.msp,
            18 => regs.psp,
            20 => {
                regs.control << 24
                    | u32::from(regs.faultmask) << 16
                    | u32::from(regs.basepri) << 8
                    | u32::from(regs.primask)
            }
            33 => self.cpu.fpscr(),
            n @ 64..=95 => self.cpu.s((n - 64) as u8),
            _ => 0,
        }
    }

    fn set_core_register(&mut self, select: u32, value: u32) {
        let mut regs = self.cpu.regs();
        match select {
            13 => {
                regs.r[13] = value;
                // set_regs takes the banked pointers; the live one follows SPSEL.
                if regs.control & 2 != 0 && !regs.in_handler() { regs.psp = value } else { regs.msp = value }
            }
            15 => regs.r[15] = value & !1,
            n @ 0..=14 => regs.r[n as usize] = value,
            16 => regs.xpsr = value,
            17 => regs.msp = value & !3,
            18 => regs.psp = value & !3,
            20 => {
                regs.control = value >> 24 & 7;
                regs.faultmask = value >> 16 & 1 != 0;
                regs.basepri = (value >> 8) as u8;
                regs.primask = value & 1 != 0;
            }
            33 => return self.cpu.set_fpscr(value),
            n @ 64..=95 => return self.cpu.set_s((n - 64) as u8, value),
            _ => return,
        }
        self.cpu.set_regs(regs);
    }

    fn ppb_read(&mut self, address: u32) -> u32 {
        match address {
            0xe000_ed30 => self.debug.dfsr,
            0xe000_edf0 => self.dhcsr(),
            0xe000_edf4 => 0,
            0xe000_edf8 => self.debug.dcrdr,
            0xe000_edfc => self.debug.demcr | self.cpu.with_sys(|sys| sys.demcr) & DEMCR_TRCENA,
            0xe000_2000..=0xe000_201f => self.debug.fpb_read(address),
            _ => coresight(address)
                .unwrap_or_else(|| self.cpu.with_sys(|sys| sys.read_word(address, false)).unwrap_or(0)),
        }
    }

    fn ppb_write(&mut self, address: u32, value: u32) {
        match address {
            0xe000_ed30 => self.debug.dfsr &= !value,
            0xe000_edf0 => self.write_dhcsr(value),
            0xe000_edf4 if self.debug.halted => {
                if value & 1 << 16 != 0 {
                    let word = self.debug.dcrdr;
                    self.set_core_register(value & 0x7f, word);
                } else {
                    self.debug.dcrdr = self.core_register(value & 0x7f);
                }
            }
            0xe000_edf4 => {}
            0xe000_edf8 => self.debug.dcrdr = value,
            0xe000_edfc => {
                self.debug.demcr = value & DEMCR_KEPT;
                self.cpu.with_sys(|sys| sys.write_word(address, value & DEMCR_TRCENA));
            }
            0xe000_2000..=0xe000_201f => self.debug.fpb_write(address, value),
            _ => {
                self.cpu.with_sys(|sys| sys.write_word(address, value));
                if self.cpu.reset_requested() {
                    self.cpu.clear_reset_request();
                    self.restart(ResetCause::Software);
                }
            }
        }
    }

    // ---- debug access port ------------------------------------------------

    /// Let the chip live a little: what happens on real silicon between two packets of a debugger.
    pub(crate) fn debug_slice(&mut self, cycles: u64) {
        // A halted core's time moves with the host's clock, or a fast debugger would
        // run the watchdog down; except that flash operations it started must end.
        if self.powered && (!self.debug.halted || self.shared.soc().flash.busy_until().is_some()) {
            self.run_cycles(cycles);
        } else {
            self.look();
        }
    }

    /// A debugger's bus access. The flash answers none of them at protection level 1.
    pub(crate) fn dap_read(&mut self, address: u32, buf: &mut [u8]) -> Result<(), DapError> {
        self.guard_flash(address, buf.len() as u32)?;
        self.shared.now.store(self.now, Ordering::Relaxed);
        if is_ppb(address) {
            let mut done = 0;
            while done < buf.len() {
                // Word by word: an access that starts inside a word ends with it.
                let at = address + done as u32;
                let lane = (at & 3) as usize;
                let len = (buf.len() - done).min(4 - lane);
                let word = self.ppb_read(at & !3).to_le_bytes();
                buf[done..done + len].copy_from_slice(&word[lane..lane + len]);
                done += len;
            }
            return Ok(());
        }
        let attrs = MemAttrs::DEFAULT.with_privileged(true);
        let result = self.space_access(address, buf.len(), |space, at, width, range| {
            let value = space.read(u64::from(at), width, attrs).map_err(|_| DapError::Fault)?;
            let len = range.len();
            buf[range].copy_from_slice(&value.to_le_bytes()[..len]);
            Ok(())
        });
        self.look();
        result
    }

    /// See [`dap_read`](Self::dap_read). `width` is the size of each transfer in bytes.
    pub(crate) fn dap_write(&mut self, address: u32, bytes: &[u8], width: usize) -> Result<(), DapError> {
        self.guard_flash(address, bytes.len() as u32)?;
        self.shared.now.store(self.now, Ordering::Relaxed);
        if is_ppb(address) {
            let mut done = 0;
            while done < bytes.len() {
                let at = address + done as u32;
                let lane = (at & 3) as usize;
                let len = (bytes.len() - done).min(4 - lane);
                let mut word = [0; 4];
                if len < 4 {
                    word = self.ppb_read(at & !3).to_le_bytes();
                }
                word[lane..lane + len].copy_from_slice(&bytes[done..done + len]);
                self.ppb_write(at & !3, u32::from_le_bytes(word));
                done += len;
            }
            return Ok(());
        }
        let attrs = MemAttrs::DEFAULT.with_privileged(true);
        let mut at = 0;
        let mut result = Ok(());
        while at < bytes.len() && result.is_ok() {
            let len = width.min(bytes.len() - at).next_power_of_two().min(4);
            let len = if len > bytes.len() - at { 1 } else { len };
            let mut word = [0; 8];
            word[..len].copy_from_slice(&bytes[at..at + len]);
            let width = Width::from_bytes(len as u64).expect("1, 2 or 4");
            result = self
                .space
                .write(u64::from(address) + at as u64, width, u64::from_le_bytes(word), attrs)
                .map_err(|_| DapError::Fault);
            at += len;
        }
        self.look();
        result
    }

    fn space_access(
        &self,
        address: u32,
        len: usize,
        mut access: impl FnMut(&AddressSpace, u32, Width, std::ops::Range<usize>) -> Result<(), DapError>,
    ) -> Result<(), DapError> {
        let mut at = 0;
        while at < len {
            let here = address.wrapping_add(at as u32);
            let step = match len - at {
                4.. if here.is_multiple_of(4) => 4,
                2.. if here.is_multiple_of(2) => 2,
                _ => 1,
            };
            access(&self.space, here, Width::from_bytes(step as u64).expect("1, 2 or 4"), at..at + step)?;
            at += step;
        }
        Ok(())
    }

    /// Whether a debug port is there to be talked to: not without power, and never again at level 2.
    pub(crate) fn debug_port(&self) -> Result<(), DapError> {
        if self.powered && self.level != ReadProtection::Level2 { Ok(()) } else { Err(DapError::NoAnswer) }
    }

    /// Every access of a debugger to the bus comes through here.
    fn guard_flash(&mut self, address: u32, len: u32) -> Result<(), DapError> {
        self.debug_port()?;
        if self.level != ReadProtection::Level1 {
            return Ok(());
        }
        self.set_shut(true);
        let end = address.saturating_add(len);
        let touches = |base: u32| address < base + FLASH_LEN && end > base;
        if touches(0) || touches(FLASH_BASE) { Err(DapError::Fault) } else { Ok(()) }
    }

    /// Read a debug port register, `address` 0, 4, 8 or 12.
    pub(crate) fn dp_read(&mut self, address: u8) -> Result<u32, DapError> {
        self.debug_port()?;
        Ok(match address & 0xc {
            0 => DPIDR,
            // Power-up requests are acknowledged at once; STICKYERR is bit 5.
            4 => self.dap.ctrl | (self.dap.ctrl & 0x5000_0000) << 1 | u32::from(self.dap.sticky) << 5,
            8 => 0,
            _ => self.dap.rdbuff,
        })
    }

    /// Write a debug port register.
    pub(crate) fn dp_write(&mut self, address: u8, value: u32) -> Result<(), DapError> {
        self.debug_port()?;
        match address & 0xc {
            0 if value & 4 != 0 => self.dap.sticky = false,
            4 => self.dap.ctrl = value & 0x5000_0f01,
            8 => self.dap.select = value,
            _ => {}
        }
        Ok(())
    }

    /// Read register `address` of access port `port`.
    pub(crate) fn ap_read(&mut self, port: u8, address: u8) -> Result<u32, DapError> {
        self.debug_port()?;
        if port != 0 {
            return Ok(0); // No such port: its IDR reads zero.
        }
        Ok(match address & 0xfc {
            0x00 => self.dap.csw | CSW_FIXED,
            0x04 => self.dap.tar,
            0x0c => {
                let value = self.ap_word(self.dap.tar)?;
                self.advance_tar();
                value
            }
            a @ 0x10..=0x1c => self.ap_word(self.dap.tar & !0xf | u32::from(a & 0xc))?,
            0xf8 => 0xe00f_f003,
            0xfc => AHB_AP_IDR,
            _ => 0,
        })
    }

    /// Write register `address` of access port `port`.
    pub(crate) fn ap_write(&mut self, port: u8, address: u8, value: u32) -> Result<(), DapError> {
        self.debug_port()?;
        if port != 0 {
            return Ok(());
        }
        match address & 0xfc {
            0x00 => self.dap.csw = value & 0xff00_0037,
            0x04 => self.dap.tar = value,
            0x0c => {
                let size = 1usize << (self.dap.csw & 7).min(2);
                let at = self.dap.tar;
                let lane = (at & 3) as usize;
                let bytes = value.to_le_bytes();
                let bytes = &bytes[lane..(lane + size).min(4)];
                self.sticky(|board| board.dap_write(at, bytes, size))?;
                self.advance_tar();
            }
            a @ 0x10..=0x1c => {
                let at = self.dap.tar & !0xf | u32::from(a & 0xc);
                self.sticky(|board| board.dap_write(at, &value.to_le_bytes(), 4))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn ap_word(&mut self, at: u32) -> Result<u32, DapError> {
        let size = 1usize << (self.dap.csw & 7).min(2);
        let lane = (at & 3) as usize;
        let mut word = [0; 4];
        let len = size.min(4 - lane);
        self.sticky(|board| board.dap_read(at, &mut word[lane..lane + len]))?;
        Ok(u32::from_le_bytes(word))
    }

    fn sticky(&mut self, access: impl FnOnce(&mut Board) -> Result<(), DapError>) -> Result<(), DapError> {
        let result = access(self);
        self.dap.sticky |= result == Err(DapError::Fault);
        result
    }

    fn advance_tar(&mut self) {
        if self.dap.csw >> 4 & 3 != 0 {
            self.dap.tar = self.dap.tar.wrapping_add(1 << (self.dap.csw & 7).min(2));
        }
    }

    pub(crate) fn set_rdbuff(&mut self, value: u32) {
        self.dap.rdbuff = value;
    }

    pub(crate) fn selected_ap(&self) -> (u8, u8) {
        ((self.dap.select >> 24) as u8, (self.dap.select & 0xf0) as u8)
    }
}

fn duration(cycles: u64) -> Duration {
    Duration::from_nanos((u128::from(cycles) * 1_000_000_000 / u128::from(CORE_HZ)) as u64)
}

fn is_ppb(address: u32) -> bool {
    // The vendor window of the private bus (DBGMCU) is decoded by the board.
    (0xe000_0000..0xe010_0000).contains(&address) && !(0xe004_2000..0xe004_3000).contains(&address)
}

fn flash_range(address: u32, len: u32) -> Result<u32, BoardError> {
    let offset =
        address.checked_sub(FLASH_BASE).filter(|o| u64::from(*o) + u64::from(len) <= u64::from(FLASH_LEN));
    offset.ok_or(BoardError::NotFlash { address, len })
}

/// A request that makes no sense for this board.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// Outside the flash array.
    #[error(
        "{len} bytes at {address:#010x} are not inside the flash (0x08000000 to 0x081FFFFF): give an address and length inside it"
    )]
    NotFlash {
        /// First byte asked for.
        address: u32,
        /// How many.
        len: u32,
    },
    /// Outside both RAMs.
    #[error(
        "{address:#010x} is not inside SRAM (0x20000000, 192 KiB) or CCM (0x10000000, 64 KiB): give an address inside one of them"
    )]
    NotRam {
        /// First byte asked for.
        address: u32,
    },
}

//! A board in virtual time: no threads, no clock, the same run every time.

mod common;

use common::*;
use keywright_virtual_board::flash::sector;
use keywright_virtual_board::{Activity, FlashTiming, ResetCause};
use std::sync::Arc;
use std::time::Duration;

const SECTOR_16: u32 = 0x0811_0000;

#[test]
fn serial_echo_at_line_speed() {
    let mut b = board(&echo());
    b.power_on();
    assert!(b.run_until(|b| b.activity() == Activity::Idle, 10 * MS), "set up and asleep");
    let start = b.elapsed();
    let text: Vec<u8> = (0..=255).collect();
    b.serial().send(&text);
    let line = Arc::clone(b.serial());
    let mut got = Vec::new();
    assert!(b.run_until(
        |_| {
            got.extend(line.take());
            got.len() == text.len()
        },
        100 * MS
    ));
    assert_eq!(got, text);
    let took = (b.elapsed() - start).as_secs_f64();
    assert!((took - 257.0 * 1400.0 / 16e6).abs() < 0.001, "{took} s for 256 bytes");
}

#[test]
fn bytes_for_a_deaf_receiver_are_lost() {
    let mut b = board(&echo());
    b.serial().send(b"too early");
    b.power_on();
    b.run_for(5 * MS);
    assert_eq!(b.serial().pending(), 0);
    b.serial().send(b"x");
    b.run_for(5 * MS);
    let echoed = b.serial().take();
    assert_eq!(echoed.last(), Some(&b'x'));
    assert!(echoed.len() < b"too earlyx".len(), "the first bytes met no receiver: {echoed:?}");
}

#[test]
fn an_unfed_watchdog_resets_the_chip_and_says_so() {
    // PR = 0, RLR = 99: 400 LSI ticks, 12.5 ms; then sleep without feeding it.
    let mut p = Program::default();
    p.mov32(0, 0x4002_3874).ldr(4, 0, 0); // RCC_CSR, for the test to read in r4
    p.poke(0x4000_3000, 0x5555).poke(0x4000_3008, 99).poke(0x4000_3000, 0xcccc);
    let top = p.here();
    p.op(WFI).branch(top);
    let mut b = board(&p.image());
    b.power_on();
    b.run_for(12 * MS);
    assert_eq!(b.resets(), [ResetCause::PowerOn]);
    b.run_for(MS);
    assert_eq!(b.resets(), [ResetCause::PowerOn, ResetCause::Watchdog]);
    b.run_for(MS);
    assert_ne!(b.register(4) & 1 << 29, 0, "RCC_CSR.IWDGRSTF");
    b.run_for(Duration::from_millis(130));
    assert_eq!(b.resets().len(), 12, "ten more periods, ten more resets");
}

#[test]
fn software_reset_is_told_apart() {
    // Reset once through AIRCR, then sleep.
    let mut p = Program::default();
    p.mov32(0, 0x4002_3874).ldr(4, 0, 0);
    p.op(0x00e5); // lsls r5, r4, #3: SFTRSTF to the sign bit
    let skip = p.here() + 1 + 9;
    p.branch_if(4, skip); // bmi: we have been here before
    p.poke(0xe000_ed0c, 0x05fa_0004);
    let top = p.here();
    p.op(WFI).branch(top);
    let mut b = board(&p.image());
    b.power_on();
    b.run_for(MS);
    assert_eq!(b.resets(), [ResetCause::PowerOn, ResetCause::Software]);
}

#[test]
fn an_erase_of_the_own_bank_stops_the_core_and_of_the_other_does_not() {
    for (snb, stalls) in [(4u32, true), (16 + 4, false)] {
        let image = with_flash(|p| {
            p.poke(FLASH_CR, 2 | snb << 3 | 1 << 16);
            // Counts in r5 what it can do before BSY is first seen clear.
            p.op(0x2500).mov32(0, 0x4002_3c0c);
            let top = p.here();
            p.op(0x3501).ldr(2, 0, 0).op(0x03d2); // adds r5,#1; lsls r2,r2,#15: BSY to the sign bit
            p.branch_if(4, top);
        });
        let mut b = board(&image);
        b.set_flash_timing(FlashTiming::REALISTIC);
        b.power_on();
        assert!(b.run_until(|b| b.activity() == Activity::Idle, Duration::from_secs(2)));
        let took = b.elapsed();
        assert!(took > Duration::from_millis(549) && took < Duration::from_millis(552), "{took:?}");
        assert_eq!(b.register(5) == 1, stalls, "loops while busy: {}", b.register(5));
    }
}

/// Writes `0x1000 + i` to the first eight words of sector 16 after erasing it.
fn writer() -> Vec<u8> {
    with_flash(|p| {
        p.poke(FLASH_CR, 2 | 0b10100 << 3 | 1 << 16).mov32(0, 0x4002_3c00).wait_clear(0x0c, 16, 1);
        p.poke(FLASH_CR, 1 | 2 << 8);
        for i in 0..8 {
            p.poke(SECTOR_16 + 4 * i, 0x1000 + i).mov32(0, 0x4002_3c00).wait_clear(0x0c, 16, 1);
        }
    })
}

#[test]
fn power_cut_at_every_flash_operation_leaves_a_prefix_and_one_torn_operation() {
    let mut clean = board(&writer());
    clean.power_on();
    assert!(clean.run_until(|b| b.activity() == Activity::Idle, 100 * MS));
    let ops = clean.flash_op_count();
    assert_eq!(ops, 9, "one erase and eight words");
    let done = clean.read_flash(SECTOR_16, 32).unwrap();
    for k in 1..=ops {
        let mut b = board(&writer());
        b.tamper(SECTOR_16, &[0; 64]).unwrap();
        b.cut_power_at_flash_op(k, 0.5, k);
        b.power_on();
        assert!(b.run_until(|b| !b.is_powered(), 100 * MS), "cut {k}");
        assert_eq!(b.flash_op_count(), k);
        let after = b.read_flash(SECTOR_16, 64).unwrap();
        if k == 1 {
            assert!(after.iter().any(|x| *x != 0) && after.iter().any(|x| *x != 0xff), "a part-done erase");
            continue;
        }
        let whole = 4 * (k as usize - 2);
        assert_eq!(after[..whole], done[..whole], "cut {k}: finished words stand");
        let torn = u32::from_le_bytes(after[whole..whole + 4].try_into().unwrap());
        let word = u32::from_le_bytes(done[whole..whole + 4].try_into().unwrap());
        assert_eq!(torn & word, word, "cut {k}: no cell of a torn word went too far");
        assert!(after[whole + 4..].iter().all(|x| *x == 0xff), "cut {k}: later words were not begun");
    }
}

#[test]
fn a_cut_in_the_middle_of_an_erase_repeats_from_its_seed() {
    let cut = |progress: f64, seed: u64| {
        let mut b = board(&writer());
        b.tamper(SECTOR_16, &vec![0; sector(16).1 as usize]).unwrap();
        b.cut_power_at_flash_op(1, progress, seed);
        b.power_on();
        assert!(b.run_until(|b| !b.is_powered(), 100 * MS));
        b.read_flash(SECTOR_16, sector(16).1).unwrap()
    };
    let first = cut(0.3, 77);
    assert!(first == cut(0.3, 77));
    assert!(first != cut(0.3, 78));
    let ones = |bytes: &[u8]| {
        bytes.iter().map(|b| b.count_ones() as usize).sum::<usize>() as f64 / (bytes.len() * 8) as f64
    };
    assert!((ones(&first) - 0.3).abs() < 0.02);
    assert!(cut(0.0, 1).iter().all(|b| *b == 0) && cut(1.0, 1).iter().all(|b| *b == 0xff));
}

#[test]
fn the_board_carries_on_after_a_cut_with_its_flash_and_without_its_ram() {
    let mut b = board(&writer());
    b.cut_power_at_flash_op(5, 0.2, 1);
    b.power_on();
    assert!(b.run_until(|b| !b.is_powered(), 100 * MS));
    assert_eq!(b.activity(), Activity::Off);
    let mut before = [0; 64];
    b.read_ram(0x2000_1000, &mut before).unwrap();
    b.power_on();
    let mut after = [0; 64];
    b.read_ram(0x2000_1000, &mut after).unwrap();
    assert_ne!(before, after, "RAM does not survive");
    assert!(b.run_until(|b| b.activity() == Activity::Idle, 100 * MS), "the second try goes through");
    assert_eq!(b.read_flash(SECTOR_16 + 28, 4).unwrap(), 0x1007u32.to_le_bytes());
}

#[test]
fn the_same_calls_give_the_same_run_to_the_cycle() {
    let run = || {
        let mut b = board(&echo());
        b.power_on();
        b.serial().send(b"determinism");
        b.run_for(20 * MS);
        b.cut_power();
        b.power_on();
        b.run_for(MS);
        (b.cycles(), b.pc(), b.register(1), b.serial().take())
    };
    assert_eq!(run(), run());
}

#[test]
fn stops_at_an_exact_instruction() {
    let mut p = Program::default();
    p.mov32(0, 0);
    let top = p.here();
    p.op(0x3001).branch(top); // adds r0, #1
    let mut b = board(&p.image());
    b.power_on();
    assert!(b.run_to_address(Program::address(top), MS));
    assert_eq!(b.register(0), 0);
    assert_eq!(b.run_instructions(2001, 10 * MS), 2001);
    assert_eq!((b.register(0), b.pc()), (1001, Program::address(top + 1)));
    assert!(!b.run_to_address(0x0800_1000, MS), "never comes there");
}

#[test]
fn random_numbers_need_their_clock_and_differ_between_boots() {
    let mut p = Program::default();
    p.poke(0x4002_3834, 1 << 6).poke(0x5006_0800, 4); // RNG clock on, RNGEN
    p.mov32(0, 0x5006_0800).ldr(4, 0, 4); // SR without the PLL
    p.poke(0x4002_3800, 0x0100_0083); // PLLON
    p.mov32(0, 0x5006_0800);
    for _ in 0..20 {
        p.op(0xbf00);
    }
    p.ldr(5, 0, 4).ldr(6, 0, 8);
    let top = p.here();
    p.op(WFI).branch(top);
    let mut b = board(&p.image());
    let mut words = Vec::new();
    for _ in 0..3 {
        b.power_on();
        b.run_for(MS);
        assert_eq!((b.register(4) & 1, b.register(4) & 2), (0, 2), "clock error, no data");
        assert_eq!(b.register(5) & 1, 1, "data ready");
        words.push(b.register(6));
        b.cut_power();
    }
    words.dedup();
    assert_eq!(words.len(), 3);
}

#[test]
fn a_sleeping_hour_costs_nothing() {
    let mut p = Program::default();
    // SysTick every 10 ms, as a firmware's clock does.
    p.poke(0xe000_e014, 159_999).poke(0xe000_e018, 0).poke(0xe000_e010, 7);
    let top = p.here();
    p.op(WFI).branch(top);
    p.handler(15).op(0x3401).op(BX_LR); // adds r4, #1
    let mut b = board(&p.image());
    b.power_on();
    b.run_for(MS);
    let before = b.register(4);
    b.run_for(Duration::from_secs(60));
    assert_eq!(b.register(4) - before, 6000, "one tick each 10 ms of virtual time");
}

#[test]
fn a_wrong_width_or_clockless_access_shows() {
    // GPIOA without its clock: the write is lost. Then with it: it sticks.
    let mut p = Program::default();
    p.poke(0x4002_0014, 0x55).mov32(0, 0x4002_0014).ldr(4, 0, 0);
    p.poke(0x4002_3830, 1).poke(0x4002_0014, 0x55).mov32(0, 0x4002_0014).ldr(5, 0, 0);
    let top = p.here();
    p.op(WFI).branch(top);
    let mut b = board(&p.image());
    b.power_on();
    b.run_for(MS);
    assert_eq!((b.register(4), b.register(5)), (0, 0x55));
}

#[test]
fn ranges_outside_memory_are_refused_by_name() {
    let mut b = board(&[]);
    assert!(b.read_flash(0x0900_0000, 4).unwrap_err().to_string().contains("0x09000000"));
    assert!(b.tamper(0x081f_ffff, &[0; 2]).is_err());
    assert!(b.read_ram(0x2003_0000, &mut [0; 1]).is_err());
    assert!(b.read_ram(0x0000_0000, &mut [0; 1]).is_err());
}

/// Plain instructions take a quick way through the board, except when somebody counts them. Both ways are the same run.
#[test]
fn the_quick_way_and_the_slow_way_are_one() {
    // Sums the flash, stores running totals, sends them, and sleeps between two ticks.
    let mut p = Program::default();
    usart_on(&mut p, true);
    p.poke(0xe000_e014, 15_999).poke(0xe000_e018, 0).poke(0xe000_e010, 7);
    let top = p.here();
    p.mov32(0, 0x0800_0000).mov32(2, 0x2000_1000).op(0x2100).op(0x2500);
    let round = p.here();
    p.ldr(3, 0, 0).op(0x1859).op(0x404d); // ldr r3, [r0]; adds r1, r3, r1; eors r5, r1
    p.op(0xbf48).op(0x43ed); // it mi; mvn r5, r5
    p.op(0xc222).op(0x3004); // stmia r2!, {r1, r5}; adds r0, #4
    p.op(0x28f0); // cmp r0, #240
    p.op(0xb2c4).op(0x2cf0); // uxtb r4, r0; cmp r4, #240
    p.branch_if(1, round);
    p.mov32(0, 0x4001_1000).str(1, 0, 4).op(WFI).branch(top);
    p.handler(15).mov32(6, 0x2000_0800).ldr(7, 6, 0).op(0x3701).str(7, 6, 0).op(BX_LR);
    p.handler(16 + 37).mov32(6, 0x4001_1000).ldr(7, 6, 4).str(7, 6, 4).op(BX_LR);
    let run = |counted: bool| {
        let mut b = board(&p.image());
        b.power_on();
        let mut said = Vec::new();
        for n in 0..40u8 {
            b.serial().send(&[n]);
            if counted {
                b.run_instructions(u64::MAX, Duration::from_micros(777));
            } else {
                b.run_for(Duration::from_micros(777));
            }
            said.push((b.cycles(), b.pc(), b.register(13), b.serial().take()));
        }
        let mut ram = vec![0; 0x3000];
        b.read_ram(0x2000_0000, &mut ram).unwrap();
        (said, ram)
    };
    let (quick, slow) = (run(false), run(true));
    assert_eq!(quick.0, slow.0);
    assert!(quick.1 == slow.1, "RAM differs");
    assert!(quick.0.iter().any(|(.., said)| said.len() > 1), "it talks");
}

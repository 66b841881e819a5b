//! Debugger packets against the virtual board: bytes from any TCP client.
//!
//! Promises: every packet gets exactly one well-formed answer, or clients wait for ever; how the bytes are split
//! makes no difference; the same bytes give the same answers; afterwards the probe still answers.

use std::sync::Arc;

use keywright_virtual_board::{Board, BoardConfig, FlashStore, ReadProtection, Remote};

use crate::input::Input;

/// Longest packet the probe takes, as its protocol says.
const PACKET_MAX: usize = 1024;

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.byte();
    let stream = if flags & 1 == 0 { packets(&mut input) } else { input.rest().to_vec() };
    let whole = answers(flags, &[&stream]);
    let pieces: Vec<&[u8]> = stream.chunks(1 + data.len() % 7).collect();
    assert_eq!(answers(flags, &pieces), whole, "split otherwise, answered otherwise");

    let mut count = 0;
    let mut rest = whole.as_str();
    while !rest.is_empty() {
        let (answer, tail) = rest.split_once('#').expect("an answer ends with #");
        assert!(
            matches!(answer.get(..2), Some("&K" | "&E" | "&P")) && !answer[1..].contains('&'),
            "not an answer: {answer}"
        );
        count += 1;
        rest = tail;
    }
    assert_eq!(count, whole_packets(&stream), "one answer for each packet");
}

fn answers(flags: u8, pieces: &[&[u8]]) -> String {
    let mut board = Board::new(BoardConfig::new(5, 1), Arc::new(FlashStore::blank()));
    if flags & 2 == 0 {
        board.power_on();
    }
    if flags & 4 != 0 {
        board.set_read_protection(ReadProtection::Level1);
    }
    let mut board = (flags & 0x18 != 0x18).then_some(board);
    let mut probe = Remote::default();
    let mut out = String::new();
    for piece in pieces {
        out += &probe.exchange(board.as_mut(), piece);
    }
    let alive = probe.exchange(board.as_mut(), b"!GA#");
    assert_eq!(alive, "&KKeywright virtual probe#");
    out
}

/// Packets in a stream, by the framing rule alone.
fn whole_packets(stream: &[u8]) -> usize {
    let (mut count, mut open) = (0, None);
    for byte in stream {
        open = match (byte, open) {
            (b'!', _) => Some(0),
            (b'#', Some(_)) => {
                count += 1;
                None
            }
            (_, Some(PACKET_MAX)) => {
                count += 1;
                None
            }
            (_, Some(len)) => Some(len + 1),
            (_, None) => None,
        };
    }
    count
}

/// Well-formed packets with numbers from the input, at addresses where something is.
fn packets(input: &mut Input<'_>) -> Vec<u8> {
    const BASES: [u32; 12] = [
        0x2000_0000, // SRAM
        0x1000_0000, // CCM
        0x0800_0000, // flash
        0x0000_0000, // its alias
        0x1fff_7a00, // factory words
        0x4002_3c00, // flash interface
        0x4002_3800, // RCC
        0x4001_1000, // USART1
        0xe000_ed00, // system control
        0xe000_edf0, // debug registers
        0xe000_2000, // breakpoints
        0xffff_fff0, // the end of everything
    ];
    let mut out = String::new();
    while !input.is_empty() {
        let what = input.byte();
        let address = |input: &mut Input<'_>| {
            BASES[input.pick(BASES.len())].wrapping_add(u32::from(input.byte()) << (what >> 5))
        };
        out += &match what % 12 {
            0 => format!("!So{:02x}{:x}#", input.byte() % 40, input.long()),
            1 => format!("!SO{:02x}{:x}#", input.byte() % 40, input.long()),
            2 => format!("!S{}{:02x}#", if what & 0x10 == 0 { 'i' } else { 'I' }, input.byte()),
            3 => format!("!Ad00ff{:04x}#", input.word()),
            4 => format!(
                "!AR00{:02x}{:04x}{:08x}#",
                input.byte() & 1,
                u16::from(input.byte() % 16) << 2 | u16::from(input.byte() & 1) << 8,
                input.long()
            ),
            5 => format!("!Aa00{:02x}{:04x}#", input.byte() & 1, 0x100 | u16::from(input.byte())),
            6 => format!(
                "!AA00{:02x}{:04x}{:08x}#",
                input.byte() & 1,
                0x100 | u16::from(input.byte()),
                input.long()
            ),
            7 => {
                let (at, len) = (address(input), input.byte());
                format!("!Am000023000052{at:08x}{len:08x}#")
            }
            8 | 9 => {
                let (at, width, len) = (address(input), input.byte() % 5, input.pick(24));
                let data = input.bytes(len);
                format!("!AM000023000052{width:02x}{at:08x}{:08x}{}#", data.len(), hex::encode(data))
            }
            10 => format!("!GZ{}#", input.byte() & 1),
            _ => ["!SS#", "!GA#", "!HC#", "!GV#", "!Gf#", "+#", "!ZZ#", "!"][input.pick(8)].into(),
        };
    }
    out.into_bytes()
}

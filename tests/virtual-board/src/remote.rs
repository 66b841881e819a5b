//! The probe: a Black Magic Probe's "remote" protocol, version 3, over a board.
//!
//! Text packets `!…#` come in, `&K…#`, `&E…#` or `&P…#` go out (Black Magic
//! Debug, `src/remote.h`). A debugger sends raw SWD bits while it connects and
//! accelerated DAP packets afterwards; both end at the same debug port. Every
//! packet is answered at once, unknown ones with an error: clients have no timeout.

use crate::board::Board;
use crate::debug::DapError;

/// Virtual time the running core gets after each packet (1 ms): without it, a
/// debugger polling for a halt would starve the program it waits for.
const SLICE: u64 = 16_000;

/// Longest packet accepted, as on the probe.
pub(crate) const PACKET_MAX: usize = 1024;

/// One debugger's connection: packet framing and the state of its SWD wire.
#[derive(Debug, Default)]
pub struct Remote {
    packet: Vec<u8>,
    in_packet: bool,
    wire: Wire,
}

impl Remote {
    /// What the probe says to `bytes` from its debugger, over a board whose time the caller owns. `None` is an
    /// empty fixture. A [`Bench`](crate::Bench) does the same over TCP.
    pub fn exchange(&mut self, mut board: Option<&mut Board>, bytes: &[u8]) -> String {
        let mut out = String::new();
        self.feed(bytes, |wire, packet| out += &answer(board.as_deref_mut(), wire, packet));
        out
    }

    /// Feed received bytes; each complete packet is handed to `answer` as it ends.
    pub(crate) fn feed(&mut self, bytes: &[u8], mut answer: impl FnMut(&mut Wire, &str)) {
        for &byte in bytes {
            match byte {
                b'!' => {
                    self.packet.clear();
                    self.in_packet = true;
                }
                b'#' if self.in_packet => {
                    self.in_packet = false;
                    let text = String::from_utf8_lossy(&self.packet).into_owned();
                    answer(&mut self.wire, &text);
                }
                _ if self.in_packet => {
                    self.packet.push(byte);
                    if self.packet.len() > PACKET_MAX {
                        // Too long for the probe's buffer: it answers and waits for the next '!'.
                        self.in_packet = false;
                        answer(&mut self.wire, "");
                    }
                }
                _ => {} // Noise between packets, such as the '+' and '#' that open a session.
            }
        }
    }
}

const OK: &str = "&K0#";
const PARAMETERS: &str = "&P1#";

fn unsupported() -> String {
    "&E1#".into()
}

/// A DAP error as the probe reports it: the low byte says "exception", the next one which.
fn failed(error: DapError) -> String {
    match error {
        DapError::NoAnswer => "&E104#".into(),
        DapError::Fault => "&E304#".into(),
    }
}

fn hex(text: &str, at: std::ops::Range<usize>) -> Option<u32> {
    u32::from_str_radix(text.get(at)?, 16).ok()
}

/// The answer to one packet. `None` for the board means that the fixture is empty.
pub(crate) fn answer(board: Option<&mut Board>, wire: &mut Wire, packet: &str) -> String {
    // What the probe answers without a target.
    match packet {
        "GA" => return "&KKeywright virtual probe#".into(),
        "HC" => return "&K3#".into(),
        "SS" => {
            *wire = Wire::default();
            return OK.into();
        }
        "Gf" => return "&Kfa0#".into(), // 4000 kHz, in the probe's hex
        _ => {}
    }
    if packet.starts_with("GF") || packet.starts_with("GE") || packet.starts_with("GP") {
        return OK.into();
    }
    let Some(board) = board else {
        return match packet.get(..2) {
            Some("GV") => "&K0.0V#".into(),
            Some("GZ" | "So" | "SO") => OK.into(),
            Some("Si" | "SI") => "&Kffffffff#".into(), // Pulled up, nobody drives it low.
            _ => failed(DapError::NoAnswer),
        };
    };
    let reply = target(board, wire, packet);
    board.debug_slice(SLICE);
    reply
}

fn target(board: &mut Board, wire: &mut Wire, packet: &str) -> String {
    try_target(board, wire, packet).unwrap_or_else(|| PARAMETERS.into())
}

fn word(result: Result<u32, DapError>) -> String {
    // Register values travel in memory order.
    result.map_or_else(failed, |v| format!("&K{:08x}#", v.swap_bytes()))
}

fn done(result: Result<(), DapError>) -> String {
    result.map_or_else(failed, |()| OK.into())
}

fn try_target(board: &mut Board, wire: &mut Wire, packet: &str) -> Option<String> {
    Some(match packet.get(..2)? {
        "GV" => if board.is_powered() { "&K3.3V#" } else { "&K0.0V#" }.into(),
        "GZ" => {
            board.set_nrst(packet.get(2..3)? == "1");
            OK.into()
        }
        "So" | "SO" => {
            let len = hex(packet, 2..4)?;
            let value = u64::from(hex(packet, 4..packet.len())?);
            for bit in 0..len.min(32) {
                wire.output(board, value >> bit & 1 != 0);
            }
            if packet.starts_with("SO") {
                wire.output(board, value.count_ones() % 2 == 1);
            }
            OK.into()
        }
        "Si" | "SI" => {
            let len = hex(packet, 2..4)?.min(32);
            let value = (0..len).fold(0u64, |v, bit| v | u64::from(wire.input()) << bit);
            if packet.starts_with("SI") {
                let parity = wire.input();
                if parity != (value.count_ones() % 2 == 1) {
                    return Some(format!("&P{value:x}#"));
                }
            }
            format!("&K{value:x}#")
        }
        // !Ad ii ff aaaa: read a register; ADDR bit 8 selects the access port.
        "Ad" => {
            let address = hex(packet, 6..10)?;
            word(board.dp_read(address as u8))
        }
        // !AR ii rr aaaa vvvvvvvv: raw access; here alone the value is not byte-swapped.
        "AR" => {
            let (read, address, value) = (hex(packet, 4..6)? != 0, hex(packet, 6..10)?, hex(packet, 10..18)?);
            match (address & 0x100 != 0, read) {
                (false, true) => board.dp_read(address as u8).map_or_else(failed, |v| format!("&K{v:08x}#")),
                (false, false) => done(board.dp_write(address as u8, value)),
                (true, true) => {
                    let (port, bank) = board.selected_ap();
                    board
                        .ap_read(port, bank | address as u8 & 0xc)
                        .map_or_else(failed, |v| format!("&K{v:08x}#"))
                }
                (true, false) => {
                    let (port, bank) = board.selected_ap();
                    done(board.ap_write(port, bank | address as u8 & 0xc, value))
                }
            }
        }
        "Aa" => {
            let (port, address) = (hex(packet, 4..6)?, hex(packet, 6..10)?);
            word(board.ap_read(port as u8, address as u8))
        }
        "AA" => {
            let (port, address, value) = (hex(packet, 4..6)?, hex(packet, 6..10)?, hex(packet, 10..18)?);
            done(board.ap_write(port as u8, address as u8, value.swap_bytes()))
        }
        // !Am ii pp cccccccc aaaaaaaa llllllll
        "Am" => {
            let (port, address, len) = (hex(packet, 4..6)?, hex(packet, 14..22)?, hex(packet, 22..30)?);
            if len as usize > PACKET_MAX / 2 {
                return None;
            }
            if port != 0 {
                return Some(failed(DapError::Fault));
            }
            let mut bytes = vec![0; len as usize];
            match board.dap_read(address, &mut bytes) {
                Ok(()) => {
                    let mut text = String::with_capacity(3 + 2 * bytes.len());
                    text.push_str("&K");
                    bytes.iter().for_each(|b| {
                        const DIGITS: &[u8; 16] = b"0123456789abcdef";
                        text.push(DIGITS[usize::from(b >> 4)] as char);
                        text.push(DIGITS[usize::from(b & 15)] as char);
                    });
                    text.push('#');
                    text
                }
                Err(error) => failed(error),
            }
        }
        // !AM ii pp cccccccc ww aaaaaaaa llllllll data
        "AM" => {
            let (port, width, address, len) = (
                hex(packet, 4..6)?,
                hex(packet, 14..16)?,
                hex(packet, 16..24)?,
                hex(packet, 24..32)? as usize,
            );
            let data = packet.get(32..)?;
            if data.len() != 2 * len || width > 3 {
                return None;
            }
            if port != 0 {
                return Some(failed(DapError::Fault));
            }
            let bytes: Vec<u8> = (0..len)
                .map(|i| u8::from_str_radix(data.get(2 * i..2 * i + 2)?, 16).ok())
                .collect::<Option<_>>()?;
            done(board.dap_write(address, &bytes, 1 << width.min(2)))
        }
        _ => unsupported(),
    })
}

/// The target's end of the SWD wire, bit by bit (ADIv5.2 B4). The probe inserts
/// the turnaround cycles itself, so none are seen here.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    ones: u32,
    state: State,
    /// Bits the target will drive, least significant first, and how many.
    drive: (u64, u32),
}

#[derive(Debug, Default)]
enum State {
    /// Before a line reset, or after a protocol error: nothing is understood.
    #[default]
    Deaf,
    /// Just reset: only a DPIDR read is answered.
    Fresh,
    Idle,
    Request {
        bits: u8,
        count: u8,
        fresh: bool,
    },
    Data {
        value: u64,
        count: u8,
        ap: bool,
        address: u8,
    },
}

impl Wire {
    fn output(&mut self, board: &mut Board, bit: bool) {
        self.drive = (0, 0); // The host took the wire back.
        self.ones = if bit { self.ones + 1 } else { 0 };
        self.state = match std::mem::take(&mut self.state) {
            // Fifty clocks high reset the line whatever was going on, except that
            // a data phase may legally carry thirty-three of them.
            _ if self.ones >= 50 => State::Fresh,
            State::Deaf => State::Deaf,
            State::Fresh if bit => State::Request { bits: 1, count: 1, fresh: true },
            State::Fresh => State::Fresh,
            State::Idle if bit => State::Request { bits: 1, count: 1, fresh: false },
            State::Idle => State::Idle,
            State::Request { bits, count, fresh } => {
                let bits = bits | u8::from(bit) << count;
                if count < 7 {
                    State::Request { bits, count: count + 1, fresh }
                } else {
                    self.request(board, bits, fresh)
                }
            }
            State::Data { value, count, ap, address } => {
                let value = value | u64::from(bit) << count;
                if count < 32 {
                    State::Data { value, count: count + 1, ap, address }
                } else {
                    let parity = value >> 32 & 1 != 0;
                    let word = value as u32;
                    if parity == (word.count_ones() % 2 == 1) {
                        // A bus fault shows in CTRL/STAT, not on this transfer.
                        let _ = if ap {
                            let (port, bank) = board.selected_ap();
                            board.ap_write(port, bank | address, word)
                        } else {
                            board.dp_write(address, word)
                        };
                        State::Idle
                    } else {
                        State::Deaf
                    }
                }
            }
        };
    }

    fn request(&mut self, board: &mut Board, bits: u8, fresh: bool) -> State {
        let (ap, read, address) = (bits & 2 != 0, bits & 4 != 0, bits >> 1 & 0xc);
        let parity = bits >> 5 & 1 != 0;
        let valid = bits & 0xc1 == 0x81 && parity == ((bits >> 1 & 0xf).count_ones() % 2 == 1);
        if !valid || board.debug_port().is_err() || fresh && !(read && !ap && address == 0) {
            return State::Deaf;
        }
        const ACK_OK: u64 = 0b001;
        const ACK_FAULT: u64 = 0b100;
        if !read {
            self.drive = (ACK_OK, 3);
            return State::Data { value: 0, count: 0, ap, address };
        }
        let value = if ap {
            // Posted: this read returns the previous one's result.
            let (port, bank) = board.selected_ap();
            let posted = board.dp_read(0xc);
            match board.ap_read(port, bank | address) {
                Ok(value) => {
                    board.set_rdbuff(value);
                    posted
                }
                Err(error) => Err(error),
            }
        } else {
            board.dp_read(address)
        };
        match value {
            Ok(value) => {
                let parity = u64::from(value.count_ones() % 2);
                self.drive = (ACK_OK | u64::from(value) << 3 | parity << 35, 36);
            }
            Err(_) => self.drive = (ACK_FAULT, 3),
        }
        State::Idle
    }

    fn input(&mut self) -> bool {
        self.ones = 0;
        let (bits, left) = self.drive;
        if left == 0 {
            return true; // Nobody drives: the pull-up wins.
        }
        self.drive = (bits >> 1, left - 1);
        bits & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::BoardConfig;
    use crate::flash::FlashStore;
    use std::sync::Arc;

    fn board() -> Board {
        let mut board = Board::new(BoardConfig::new(1, 1), Arc::new(FlashStore::blank()));
        board.power_on();
        board
    }

    fn send(board: &mut Board, wire: &mut Wire, packet: &str) -> String {
        answer(Some(board), wire, packet)
    }

    #[test]
    fn a_line_reset_and_a_dpidr_read_in_raw_bits() {
        let (mut b, mut w) = (board(), Wire::default());
        // Not reset yet: nothing drives the wire.
        send(&mut b, &mut w, "So08a5");
        assert_eq!(send(&mut b, &mut w, "Si03"), "&K7#");
        send(&mut b, &mut w, "So20ffffffff");
        send(&mut b, &mut w, "So20ffffffff");
        send(&mut b, &mut w, "So020");
        send(&mut b, &mut w, "So08a5"); // read DPIDR
        assert_eq!(send(&mut b, &mut w, "Si03"), "&K1#");
        assert_eq!(send(&mut b, &mut w, "Si20"), "&K2ba01477#");
        assert_eq!(send(&mut b, &mut w, "Si01"), "&K0#", "even number of ones");
    }

    #[test]
    fn values_travel_in_memory_order_where_the_probe_says_so() {
        let (mut b, mut w) = (board(), Wire::default());
        assert_eq!(send(&mut b, &mut w, "Ad00ff0000"), "&K7714a02b#");
        assert_eq!(send(&mut b, &mut w, "Aa000001fc"), "&K11007724#");
        assert_eq!(send(&mut b, &mut w, "Aa000101fc"), "&K00000000#", "only one access port");
        assert_eq!(send(&mut b, &mut w, "AM0000230000520220000000000000040a0b0c0d"), OK);
        assert_eq!(send(&mut b, &mut w, "Am0000230000522000000000000004"), "&K0a0b0c0d#");
    }

    #[test]
    fn bad_packets_are_answered_and_harmless() {
        let (mut b, mut w) = (board(), Wire::default());
        assert_eq!(send(&mut b, &mut w, "ZZ"), "&E1#");
        assert_eq!(send(&mut b, &mut w, ""), PARAMETERS);
        assert_eq!(send(&mut b, &mut w, "Am00"), PARAMETERS);
        assert_eq!(send(&mut b, &mut w, "Am0000230000522000000000ffffff"), PARAMETERS);
        assert_eq!(send(&mut b, &mut w, "AM000023000052022000000000000004zzzzzzzz"), PARAMETERS);
        // Bytes that are no text become three-byte characters, which digits may not be cut out of.
        assert_eq!(send(&mut b, &mut w, "AM000023000052022000000000000002a\u{fffd}"), PARAMETERS);
        assert_eq!(
            send(&mut b, &mut w, "Am0000230000529000000000000004"),
            "&E304#",
            "nothing at that address"
        );
        let mut remote = Remote::default();
        let mut seen = Vec::new();
        remote.feed(b"+#!GA#noise!", |_, p| seen.push(p.to_owned()));
        remote.feed(&[b'x'; PACKET_MAX + 1], |_, p| seen.push(p.to_owned()));
        remote.feed(b"#!HC#", |_, p| seen.push(p.to_owned()));
        assert_eq!(seen, ["GA", "", "HC"]);
    }

    #[test]
    fn a_transfer_may_start_inside_a_word_of_the_private_bus() {
        let (mut b, mut w) = (board(), Wire::default());
        let read = "Am000023000052e000edf800000004";
        assert_eq!(send(&mut b, &mut w, "AM00002300005202e000edf80000000411223344"), OK);
        assert_eq!(send(&mut b, &mut w, read), "&K11223344#");
        // Three bytes from the last one of DCRDR on: they reach into DEMCR.
        assert_eq!(send(&mut b, &mut w, "AM00002300005200e000edfb00000003aa0000"), OK);
        assert_eq!(send(&mut b, &mut w, read), "&K112233aa#");
        assert_eq!(send(&mut b, &mut w, "Am000023000052e000edf900000004"), "&K2233aa00#");
    }

    #[test]
    fn an_unpowered_or_missing_board_answers_like_an_open_wire() {
        let (mut b, mut w) = (board(), Wire::default());
        b.cut_power();
        assert_eq!(send(&mut b, &mut w, "Ad00ff0000"), "&E104#");
        assert_eq!(answer(None, &mut w, "Ad00ff0000"), "&E104#");
        assert_eq!(answer(None, &mut w, "Si03"), "&Kffffffff#");
    }
}

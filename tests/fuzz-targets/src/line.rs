//! A whole unit, the real engine over simulated flash, under anything at all on its serial line.
//!
//! The agent does not hear the unit, so nothing genuine ever answers it. Promise: whatever an outsider sends,
//! in whatever stage the unit is, it does not panic, it sends only well-formed packets, and flash shows the same
//! keys, marks and secret as before.

use keywright_protocol::serial::{self, Channel};

use crate::input::Input;
use crate::records::{MOMENTS, REGIONS};
use crate::support::agent::Agent;
use crate::support::{Line, World};

/// Runs one input.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let moment = &MOMENTS[input.pick(MOMENTS.len())];
    let mut world = World::new(Agent::new(moment.suite, 1), 0x0dd);
    for (region, bytes) in REGIONS.iter().zip(&moment.regions) {
        let mut whole = bytes.clone();
        whole.resize(region.len as usize, 0xff);
        world.nor.borrow_mut().preset(region.base, &whole);
    }
    world.line = Line { loss: 100, ..Line::default() };
    world.power_on();
    // Boot, and the first message of what is due.
    world.step();
    world.step();
    let before = state(&mut world);
    let frames: Vec<Vec<u8>> = MOMENTS.iter().flat_map(|moment| payloads(&moment.line)).collect();
    let others: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
    while !input.is_empty() {
        match input.byte() % 4 {
            0 => {
                let len = input.pick(256);
                let noise = input.bytes(len);
                world.wire.borrow_mut().to_unit.extend(noise);
            }
            1 => {
                let (channel, len) = (input.byte() % 8, input.pick(256));
                world.send(Channel(channel), input.bytes(len));
            }
            // What a genuine agent once said to this unit, or to another one, as it was or changed.
            2 => {
                let Some(frame) = others.get(input.pick(others.len())) else { continue };
                let mut frame = frame.to_vec();
                let len = input.pick(32);
                Input::new(input.bytes(len)).edit(&mut frame, &others);
                frame.truncate(serial::MAX_PAYLOAD);
                world.send(Channel::AGENT, &frame);
            }
            _ => {
                world.step();
            }
        }
        world.step();
    }
    for _ in 0..4 {
        world.step();
    }
    assert_eq!(state(&mut world), before, "an outsider changed the unit's keys");
    assert_eq!(world.nor.borrow().raised_bits, 0);
}

/// What flash shows about keys, read independently of the store.
fn state(world: &mut World) -> (Option<[u8; 32]>, bool, String) {
    let records = format!("{:?}", world.records());
    let nor = world.nor.borrow();
    (nor.secret().map(|secret| *secret.expose()), nor.product_key().is_some(), records)
}

/// The payloads of whole packets.
fn payloads(line: &[u8]) -> Vec<Vec<u8>> {
    let mut buffer = [0; serial::MAX_PACKET];
    line.split_inclusive(|byte| *byte == 0)
        .filter_map(|packet| serial::decode(packet, &mut buffer).ok().map(|packet| packet.payload.to_vec()))
        .collect()
}

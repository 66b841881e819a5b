//! Control messages (channel 1) and log records (channel 4).
//!
//! Promise: a message that decodes encodes to the same bytes, at exactly its length; no other length decodes;
//! whatever a newer peer sends can be shown.

use keywright_protocol::control::{Control, LogRecord, MAX_CONTROL};
use keywright_protocol::{AgentKey, CloudKey, DeviceFailure, Error, FieldName};

use crate::input::Input;

/// Runs one input.
pub fn run(data: &[u8]) {
    log_record(data);
    let mut longer = data.to_vec();
    longer.push(0);
    match Control::decode(data) {
        Ok(message) => {
            let mut out = [0; MAX_CONTROL];
            let len = message.encode(&mut out).expect("MAX_CONTROL holds every message");
            assert_eq!(out[..len], *data, "decode and encode undo each other");
            assert_eq!(message.type_byte(), data[0]);
            assert_eq!(Control::decode(&longer), Err(Error::Length));
            assert_eq!(Control::decode(&data[..data.len() - 1]).err(), Some(Error::Length));
            assert_eq!(message.encode(&mut out[..len - 1]), Err(Error::BufferTooSmall));
            show(&message);
        }
        Err(Error::UnknownMessage { got }) => assert_eq!(Some(&got), data.first()),
        // An update names the agent key or the cloud key.
        Err(Error::Field(FieldName::Value)) => {
            assert!(data.len() >= 2 && data[0] == 5 && data[1] != 2 && data[1] != 3);
        }
        Err(error) => assert_eq!(error, Error::Length),
    }
}

fn show(message: &Control) {
    assert!(!format!("{message:?}").is_empty());
    match message {
        Control::Status(status) => {
            let shown = format!("{} {} {} {}", status.stage, status.area_a, status.area_b, status.cloud);
            assert!(!shown.is_empty());
            if let Some(failure) = DeviceFailure::from_code(status.last_failure) {
                assert_eq!(failure.code(), status.last_failure);
            }
        }
        Control::Proof(proof) => {
            // Nobody holds these keys: no bytes from the line can prove them.
            let (agent, cloud) = (AgentKey::from_bytes([7; 32]), CloudKey::new(&[8; 32]).expect("32 bytes"));
            assert!(proof.verify_agent(&[1; 32], &proof.unit, proof.agent_key, &agent).is_err());
            assert!(proof.verify_cloud(&[1; 32], &proof.unit, proof.cloud_key, &cloud).is_err());
        }
        _ => {}
    }
}

fn log_record(data: &[u8]) {
    match LogRecord::parse(data) {
        Ok(record) => assert_eq!(record.to_bytes(), *data),
        Err(error) => {
            assert_eq!(error, Error::Length);
            assert_ne!(data.len(), LogRecord::LEN);
        }
    }
    let whole: [u8; LogRecord::LEN] = Input::new(data).array();
    assert_eq!(LogRecord::parse(&whole).expect("seven bytes").to_bytes(), whole);
}

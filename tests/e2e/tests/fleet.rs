//! The benchmark's fleet at a size for tests: whatever the network loses, every unit ends with the keys that the agent has.
#![cfg(unix)]

use keywright::secrets::KdfCost;
use keywright_e2e::fleet::{Fleet, Office, Service, Waiting};
use keywright_protocol::Purpose;
use std::sync::Arc;

const UNITS: u32 = 20;

#[test]
fn a_fleet_on_a_lossy_network_ends_with_the_keys_that_the_agent_has() {
    // 30 %: twenty units must see what a thousand see at 5 %.
    for (suite, seed, loss) in [(2, 1, 5), (2, 2, 30), (1, 3, 30)] {
        let office = Arc::new(Office::new(UNITS, suite, KdfCost::TEST));
        office.arrive(0..UNITS);
        let service = Service::start(&office, 8);
        let mut fleet = Fleet::new(0..UNITS, office.stage_one(), seed);
        let enrolled = fleet.enrol(service.addresses().line, 8);
        assert_eq!(enrolled.traffic.lost, 0);

        let cloud = fleet.rekey(Purpose::CloudKeyUpdate, service.addresses().field, loss, Waiting::Skipped);
        let agent = fleet.rekey(Purpose::AgentKeyUpdate, service.addresses().field, loss, Waiting::Skipped);
        for outcome in [cloud, agent] {
            assert!(outcome.traffic.frames >= u64::from(4 * UNITS), "{outcome:?}");
            assert_eq!(outcome.erases, u64::from(UNITS), "one erase an update");
        }
        if loss > 5 {
            assert!(cloud.traffic.lost > 0 && agent.traffic.lost > 0, "{cloud:?} {agent:?}");
        }

        let vault = office.records().key_vault();
        for unit in fleet.units() {
            let keys = vault.unit_keys(unit.id()).expect("keys");
            let (agent, cloud) = (keys.agent.expect("an agent key"), keys.cloud.expect("a cloud key"));
            let record = unit.record().expect("a record");
            let (generation, key) = record.agent_key().expect("an agent key");
            assert_eq!((generation.0, key.expose().as_slice()), (agent.generation, agent.key.expose()));
            let (generation, key) = record.cloud_key().expect("a cloud key");
            assert_eq!((generation.0, key.expose()), (cloud.generation, cloud.key.expose()));
            assert!(agent.generation >= 2 && cloud.generation >= 2);
        }
    }
}

//! A real Mosquitto with dynamic security on a loopback port with TLS, as docs/cloud.md sets one up; for the tests of this package and for
//! the end-to-end tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use keywright::cloud::{Credential, Endpoint, Link, Login, setup_message};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough for a busy build machine; nothing waits for it on the good path.
pub const LONG: Duration = Duration::from_secs(60);

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A CA and a server certificate for `localhost`, made once.
pub fn certificates() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let openssl = |args: &str| {
                let out = Command::new("openssl").args(args.split(' ')).current_dir(folder.path()).output();
                let out = out.expect("openssl is missing: install the package `openssl`");
                assert!(out.status.success(), "openssl {args}: {}", String::from_utf8_lossy(&out.stderr));
            };
            let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
            for ca in ["ca", "other"] {
                openssl(&format!("req -x509 {key} -keyout {ca}.key -out {ca}.pem -days 2 -subj /CN={ca}"));
            }
            openssl(&format!("req {key} -keyout server.key -out server.csr -subj /CN=localhost"));
            std::fs::write(folder.path().join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
            openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.pem");
            folder
        })
        .path()
}

fn program(names: &[&str]) -> PathBuf {
    let found = names.iter().map(PathBuf::from).find(|p| p.exists());
    found.unwrap_or_else(|| panic!("{} is missing: install the package `mosquitto`", names[0]))
}

pub struct Broker {
    pub folder: tempfile::TempDir,
    pub port: u16,
    process: Option<Child>,
}

pub const ADMIN: &str = "administrator";
pub const ADMIN_PASSWORD: &str = "public-test-password";
pub const AGENT: &str = "keywright-agent";
pub const AGENT_PASSWORD: &str = "another-public-test-password";

impl Broker {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut broker = Self { port: free.local_addr().unwrap().port(), folder, process: None };
        drop(free);
        let ctrl = program(&["/usr/bin/mosquitto_ctrl", "/usr/local/bin/mosquitto_ctrl"]);
        let out = Command::new(ctrl)
            .args(["dynsec", "init"])
            .arg(broker.dynsec())
            .args([ADMIN, ADMIN_PASSWORD])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(out.status.success(), "mosquitto_ctrl: {}", String::from_utf8_lossy(&out.stderr));
        let certificates = certificates().display().to_string();
        let plugin = program(&[
            "/usr/lib/x86_64-linux-gnu/mosquitto_dynamic_security.so",
            "/usr/lib/aarch64-linux-gnu/mosquitto_dynamic_security.so",
            "/usr/lib/mosquitto_dynamic_security.so",
        ]);
        let configuration = format!(
            "listener {port} 127.0.0.1\ncertfile {certificates}/server.pem\nkeyfile {certificates}/server.key\n\
             allow_anonymous false\nuser root\nplugin {plugin}\nplugin_opt_config_file {dynsec}\n\
             set_tcp_nodelay true\nmax_queued_messages 100000\nlog_dest topic\nlog_type notice\nlog_type error\n",
            port = broker.port,
            plugin = plugin.display(),
            dynsec = broker.dynsec().display(),
        );
        std::fs::write(broker.folder.path().join("mosquitto.conf"), configuration).unwrap();
        broker.start();
        broker.administer(&setup_message(AGENT, &Credential::from_password(AGENT_PASSWORD.into())));
        broker
    }

    pub fn dynsec(&self) -> PathBuf {
        self.folder.path().join("dynamic-security.json")
    }

    pub fn endpoint(&self) -> Endpoint {
        let ca = std::fs::read(certificates().join("ca.pem")).unwrap();
        Endpoint::tls("localhost", self.port, &ca).unwrap()
    }

    pub fn start(&mut self) {
        assert!(self.process.is_none());
        let mosquitto = program(&["/usr/sbin/mosquitto", "/usr/bin/mosquitto", "/usr/local/sbin/mosquitto"]);
        let process = Command::new(mosquitto)
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        eventually("mosquitto listens", || {
            let process = self.process.as_mut().unwrap();
            assert!(process.try_wait().unwrap().is_none(), "mosquitto ended at once");
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    pub fn signal(&self, name: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    pub fn administrator(&self) -> Link {
        let login = Login {
            client_id: "administrator".into(),
            username: ADMIN.into(),
            password: Credential::from_password(ADMIN_PASSWORD.into()),
            clean_session: true,
            keep_alive: LONG,
        };
        Link::open(&self.endpoint(), &login, LONG).unwrap()
    }

    /// Publishes a control message as the administrator and checks that nothing was refused.
    pub fn administer(&self, message: &str) {
        let answer = self.tell(message);
        assert!(!answer.contains("error"), "{answer}");
    }

    /// Publishes a control message as the administrator; the broker's answer to all of its commands.
    pub fn tell(&self, message: &str) -> String {
        let mut link = self.administrator();
        assert_eq!(link.subscribe(&["$CONTROL/dynamic-security/v1/response"], LONG).unwrap(), [true]);
        link.publish("$CONTROL/dynamic-security/v1", message.as_bytes(), LONG).unwrap();
        let answer = link.receive(LONG).unwrap().expect("an answer");
        String::from_utf8(answer.payload).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

//! The cloud platforms that `station.toml` names, started when somebody first needs them.

use super::{
    CloudError, Credential, Endpoint, LocalConfig, LocalPlatform, MosquittoConfig, MosquittoPlatform,
    Notices, Platform,
};
use crate::config::{CloudConfig, CloudKind};
use crate::failure::{Failure, FailureCode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The URL by which units know the embedded broker; the bench's bridge leads it there.
pub const LOCAL_URL: &str = "mqtt://keywright.local:1883";

type Started = Mutex<Option<Arc<dyn Platform>>>;
type Follow = Box<dyn Fn(&str, Notices) + Send + Sync>;

/// Every platform of this station.
pub struct Clouds {
    home: PathBuf,
    station: String,
    entries: Vec<(CloudConfig, Started)>,
    follow: Follow,
}

impl std::fmt::Debug for Clouds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|(config, _)| &config.name)).finish()
    }
}

/// Host and port of a platform's URL, as a unit reads it.
pub fn address(url: &str) -> Option<(&str, u16)> {
    let (rest, standard) = match url.strip_prefix("mqtts://") {
        Some(rest) => (rest, 8883),
        None => (url.strip_prefix("mqtt://")?, 1883),
    };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (rest, standard),
    };
    (!host.is_empty()).then_some((host, port))
}

/// A broker's trouble as people read it: who is to do something about it, the station's disk, the network, or the broker's accounts.
pub fn cloud_failure(error: &CloudError) -> Failure {
    fn code(error: &CloudError) -> FailureCode {
        match error {
            CloudError::Ledger { .. } | CloudError::Damaged { .. } => FailureCode::RecordsFailed,
            CloudError::Pending { cause: Some(cause), .. } => code(cause),
            CloudError::Pending { cause: None, .. }
            | CloudError::Unreachable { .. }
            | CloudError::Slow { .. }
            | CloudError::QueueFull { .. } => FailureCode::BrokerUnreachable,
            _ => FailureCode::CloudRefused,
        }
    }
    Failure::new(code(error), error)
}

impl Clouds {
    /// The platforms of a configuration; none is started yet. `follow` gets each platform's notices as it starts.
    pub fn new(
        home: &Path,
        station: &str,
        configs: &[CloudConfig],
        follow: impl Fn(&str, Notices) + Send + Sync + 'static,
    ) -> Self {
        Self {
            home: home.to_path_buf(),
            station: station.to_owned(),
            entries: configs.iter().map(|config| (config.clone(), Mutex::default())).collect(),
            follow: Box::new(follow),
        }
    }

    fn entry(&self, url: &str) -> Result<&(CloudConfig, Started), Failure> {
        self.entries.iter().find(|(config, _)| config.url == url).ok_or_else(|| {
            let known: Vec<_> = self.entries.iter().map(|(c, _)| format!("{} ({})", c.name, c.url)).collect();
            Failure::new(
                FailureCode::CloudRefused,
                format!("station.toml names no cloud at {url}; it names {}", known.join(", ")),
            )
        })
    }

    /// Takes a platform that runs already, in place of the one that the configuration would start at this URL.
    ///
    /// # Errors
    /// `CloudRefused` if the configuration names none.
    pub fn adopt(&self, url: &str, platform: Arc<dyn Platform>) -> Result<(), Failure> {
        let (_, started) = self.entry(url)?;
        (self.follow)(url, platform.notices());
        *started.lock().unwrap_or_else(PoisonError::into_inner) = Some(platform);
        Ok(())
    }

    /// The platform that units know by this URL, running.
    ///
    /// # Errors
    /// `CloudRefused` if the configuration names none, or what [`cloud_failure`] makes of why it can't be started.
    pub fn at(&self, url: &str) -> Result<Arc<dyn Platform>, Failure> {
        let (config, started) = self.entry(url)?;
        let mut started = started.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(platform) = &*started {
            return Ok(platform.clone());
        }
        let platform = self.start(config)?;
        (self.follow)(url, platform.notices());
        *started = Some(platform.clone());
        Ok(platform)
    }

    /// URLs of the platforms that run.
    pub fn running(&self) -> Vec<String> {
        let runs = |started: &Started| started.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        self.entries
            .iter()
            .filter(|(_, started)| runs(started))
            .map(|(config, _)| config.url.clone())
            .collect()
    }

    fn start(&self, config: &CloudConfig) -> Result<Arc<dyn Platform>, Failure> {
        let folder = self.home.join("cloud");
        std::fs::create_dir_all(&folder)
            .map_err(|e| Failure::new(FailureCode::RecordsFailed, format!("{}: {e}", folder.display())))?;
        let ledger = folder.join(format!("{}.journal", config.name));
        let platform: Arc<dyn Platform> = match &config.kind {
            CloudKind::Local { listen } => {
                let local = LocalConfig { listen: *listen, ..LocalConfig::new(ledger) };
                Arc::new(LocalPlatform::start(&local).map_err(|e| cloud_failure(&e))?)
            }
            CloudKind::Mosquitto { host, port, ca, username, password_file } => {
                let endpoint = mosquitto_endpoint(host, *port, ca.as_deref())?;
                let password = String::from_utf8(read(password_file, "the agent's broker password")?);
                let password = password.unwrap_or_default().trim_end_matches(['\r', '\n']).to_owned();
                let password = Credential::from_password(password);
                let mut mosquitto = MosquittoConfig::new(ledger, endpoint, username, password);
                mosquitto.station.clone_from(&self.station);
                Arc::new(MosquittoPlatform::start(mosquitto).map_err(|e| cloud_failure(&e))?)
            }
        };
        Ok(platform)
    }
}

fn mosquitto_endpoint(host: &str, port: u16, ca: Option<&Path>) -> Result<Endpoint, Failure> {
    match ca {
        Some(path) => Endpoint::tls(host, port, &read(path, "the CA certificate")?),
        None => Endpoint::unprotected(host, port),
    }
    .map_err(|e| cloud_failure(&e))
}

/// Whether a Mosquitto broker would do, see [`super::mosquitto::try_broker`]; how many units it knows.
///
/// # Errors
/// What [`cloud_failure`] makes of why not; `ConfigInvalid` for a certificate that can't be read.
pub fn try_mosquitto(
    station: &str,
    (host, port): (&str, u16),
    ca: Option<&Path>,
    username: &str,
    password: String,
) -> Result<usize, Failure> {
    let endpoint = mosquitto_endpoint(host, port, ca)?;
    let mut config =
        MosquittoConfig::new(PathBuf::new(), endpoint, username, Credential::from_password(password));
    config.station = station.to_owned();
    super::mosquitto::try_broker(&config).map_err(|e| cloud_failure(&e))
}

impl Drop for Clouds {
    fn drop(&mut self) {
        for (_, started) in &self.entries {
            if let Some(platform) = started.lock().unwrap_or_else(PoisonError::into_inner).take() {
                platform.stop();
            }
        }
    }
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|e| Failure::new(FailureCode::ConfigInvalid, format!("{what}, {}: {e}", path.display())))
}

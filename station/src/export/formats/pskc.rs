//! PSKC, RFC 6030: both keys of every unit in one key container.
//!
//! With a password, keys are encrypted as the RFC's §6.2 shows: AES-128-CBC under a key that PBKDF2 makes of the password, and an
//! HMAC over every ciphertext (§6.3) under a MAC key that is in the file, encrypted like the others. HMAC-SHA-256 is used for
//! both, which readers must know beside the RFC's HMAC-SHA1. Without one they are plain values, for a file that is sealed
//! as a whole.
//!
//! The container's elements have a prefix, as in the RFC's examples: what stands in PKCS #5's `PBKDF2-params` is in no namespace, and a
//! default one would claim it.
//!
//! A row is two `KeyPackage` elements, the agent key's and the cloud key's; each says whose it is.

use super::{Each, Field, Misfit, Passed, ReadField, base64, from_base64};
use aes::Aes128;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use keywright_protocol::crypto;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use std::io::BufRead;
use zeroize::Zeroizing;

/// What PBKDF2 costs: a tenth of a second of one core, once per file.
const ITERATIONS: u32 = 600_000;
/// What a reader is asked to spend at most.
const MOST_ITERATIONS: u32 = 20_000_000;

const AES_128_CBC: &str = "http://www.w3.org/2001/04/xmlenc#aes128-cbc";
const HMAC_SHA_256: &str = "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256";
const PBKDF2: &str = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2";

pub(super) const TAIL: &str = "</pskc:KeyContainer>\n";

/// Key transport under a password.
pub(in crate::export) struct Cipher {
    key: Zeroizing<[u8; 16]>,
    mac_key: Zeroizing<[u8; 32]>,
    salt: [u8; 16],
    mac_iv: [u8; 16],
}

impl Cipher {
    /// A new file's: `fill` draws the salt, the MAC key and its initialization vector.
    pub fn new(password: &str, fill: &mut dyn FnMut(&mut [u8])) -> Self {
        let (mut salt, mut mac_iv, mut mac_key) = ([0; 16], [0; 16], Zeroizing::new([0; 32]));
        fill(&mut salt);
        fill(&mut mac_iv);
        fill(&mut *mac_key);
        Self { key: stretch(password, &salt, ITERATIONS), mac_key, salt, mac_iv }
    }

    /// The initialization vector of a key: never twice under one MAC key, and nobody knows it before.
    fn iv(&self, key_id: &str) -> [u8; 16] {
        let tag = crypto::hmac(&*self.mac_key, &[b"iv", key_id.as_bytes()]);
        let mut iv = [0; 16];
        iv.copy_from_slice(&tag[..16]);
        iv
    }

    /// IV and ciphertext, and the MAC over both.
    fn seal(&self, key_id: &str, secret: &[u8]) -> (Vec<u8>, [u8; 32]) {
        let sealed = encrypt(&self.key, &self.iv(key_id), secret);
        let mac = crypto::hmac(&*self.mac_key, &[&sealed]);
        (sealed, mac)
    }
}

fn stretch(password: &str, salt: &[u8], iterations: u32) -> Zeroizing<[u8; 16]> {
    let mut key = Zeroizing::new([0; 16]);
    pbkdf2::pbkdf2_hmac::<sha2::Sha256>(password.as_bytes(), salt, iterations, &mut *key);
    key
}

fn encrypt(key: &[u8; 16], iv: &[u8; 16], plain: &[u8]) -> Vec<u8> {
    let mut out = Zeroizing::new(vec![0; plain.len() + 16]);
    out[..plain.len()].copy_from_slice(plain);
    // The buffer has room for the padding, so this can't fail.
    let sealed = cbc::Encryptor::<Aes128>::new(key.into(), iv.into())
        .encrypt_padded::<Pkcs7>(&mut out, plain.len())
        .map(<[u8]>::to_vec)
        .unwrap_or_default();
    [iv.as_slice(), &sealed].concat()
}

fn decrypt(key: &[u8; 16], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
    let bad = || "this can't be decrypted; the password is wrong or the file is damaged".to_owned();
    let (iv, body) = sealed.split_at_checked(16).ok_or_else(bad)?;
    let iv: &[u8; 16] = iv.try_into().map_err(|_| bad())?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = cbc::Decryptor::<Aes128>::new(key.into(), iv.into())
        .decrypt_padded::<Pkcs7>(&mut body)
        .map_err(|_| bad())?;
    Ok(Zeroizing::new(plain.to_vec()))
}

pub(super) fn fields(unit: &Passed<'_>) -> Result<Vec<Field>, String> {
    let id = |id: &Option<String>, kind: &str| {
        id.clone().ok_or_else(|| format!("unit {} has no {kind} key id", unit.unit))
    };
    let model = unit.row.part_number.clone().unwrap_or_default();
    Ok(vec![
        Field::text("agent.SerialNo", unit.serial()),
        Field::text("agent.Model", model.clone()),
        Field::text("agent.DeviceBinding", unit.unit.to_string()),
        Field::text("agent.Id", id(&unit.row.agent_key_id, "agent")?),
        Field::text("agent.FriendlyName", "agent key"),
        Field::secret("agent.Secret", base64(&unit.keys.secrets.agent_key).as_str()),
        Field::text("agent.UserId", unit.unit.to_string()),
        Field::text("cloud.SerialNo", unit.serial()),
        Field::text("cloud.Model", model),
        Field::text("cloud.DeviceBinding", unit.unit.to_string()),
        Field::text("cloud.Id", id(&unit.row.cloud_key_id, "cloud")?),
        Field::text("cloud.FriendlyName", "cloud key"),
        Field::secret("cloud.Secret", base64(&unit.keys.secrets.cloud_key).as_str()),
        Field::text("cloud.UserId", unit.identity().to_string()),
    ])
}

fn cipher_value(sealed: &[u8]) -> String {
    format!(
        "<xenc:EncryptionMethod Algorithm=\"{AES_128_CBC}\"/><xenc:CipherData><xenc:CipherValue>{}</xenc:CipherValue></xenc:CipherData>",
        &*base64(sealed)
    )
}

pub(super) fn head(cipher: Option<&Cipher>) -> String {
    let mut out = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<pskc:KeyContainer Version=\"1.0\" xmlns:pskc=\"urn:ietf:params:xml:ns:keyprov:pskc\" \
         xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\" xmlns:xenc=\"http://www.w3.org/2001/04/xmlenc#\" \
         xmlns:xenc11=\"http://www.w3.org/2009/xmlenc11#\" \
         xmlns:pkcs5=\"http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#\">\n",
    );
    if let Some(cipher) = cipher {
        out += &format!(
            "<pskc:EncryptionKey><xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm=\"{PBKDF2}\"><pkcs5:PBKDF2-params>\
             <Salt><Specified>{}</Specified></Salt><IterationCount>{ITERATIONS}</IterationCount><KeyLength>16</KeyLength>\
             <PRF Algorithm=\"{HMAC_SHA_256}\"/></pkcs5:PBKDF2-params></xenc11:KeyDerivationMethod>\
             <xenc11:MasterKeyName>password</xenc11:MasterKeyName></xenc11:DerivedKey></pskc:EncryptionKey>\n\
             <pskc:MACMethod Algorithm=\"{HMAC_SHA_256}\"><pskc:MACKey>{}</pskc:MACKey></pskc:MACMethod>\n",
            &*base64(&cipher.salt),
            cipher_value(&encrypt(&cipher.key, &cipher.mac_iv, &*cipher.mac_key)),
        );
    }
    out
}

pub(super) fn row(fields: &[Field], cipher: Option<&Cipher>) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut out = Zeroizing::new(String::with_capacity(4096));
    for (key, fields) in ["agent", "cloud"].iter().zip(fields.chunks(fields.len() / 2)) {
        let value = |name: &str| {
            let path = format!("{key}.{name}");
            fields.iter().find(|f| f.path == path).map_or("", |f| f.value.as_str())
        };
        let text = |name: &str| escape(value(name)).into_owned();
        out.push_str(&format!(
            "<pskc:KeyPackage><pskc:DeviceInfo><pskc:SerialNo>{}</pskc:SerialNo><pskc:Model>{}</pskc:Model><pskc:DeviceBinding>{}</pskc:DeviceBinding></pskc:DeviceInfo>\
             <pskc:Key Id=\"{}\"><pskc:FriendlyName>{}</pskc:FriendlyName><pskc:Data><pskc:Secret>",
            text("SerialNo"),
            text("Model"),
            text("DeviceBinding"),
            text("Id"),
            text("FriendlyName"),
        ));
        match cipher {
            None => {
                out.push_str("<pskc:PlainValue>");
                out.push_str(value("Secret"));
                out.push_str("</pskc:PlainValue>");
            }
            Some(cipher) => {
                let (sealed, mac) = cipher.seal(value("Id"), &from_base64(value("Secret"))?);
                out.push_str(&format!(
                    "<pskc:EncryptedValue>{}</pskc:EncryptedValue><pskc:ValueMAC>{}</pskc:ValueMAC>",
                    cipher_value(&sealed),
                    &*base64(&mac)
                ));
            }
        }
        out.push_str(&format!(
            "</pskc:Secret></pskc:Data><pskc:UserId>{}</pskc:UserId><pskc:Policy><pskc:KeyUsage>Derive</pskc:KeyUsage></pskc:Policy></pskc:Key></pskc:KeyPackage>\n",
            text("UserId")
        ));
    }
    Ok(Zeroizing::new(std::mem::take(&mut *out).into_bytes()))
}

/// The key that encrypts, and the one of the MACs.
type TransportKeys = (Zeroizing<[u8; 16]>, Zeroizing<Vec<u8>>);

/// What the head of a file says of its key transport.
#[derive(Default)]
struct Transport {
    salt: Vec<u8>,
    iterations: u32,
    sealed_mac_key: Vec<u8>,
    /// `Some`: opened with the password.
    keys: Option<TransportKeys>,
}

impl Transport {
    fn open(&mut self, password: Option<&str>) -> Result<&TransportKeys, String> {
        if self.keys.is_none() {
            let password = password.ok_or("the keys in it are encrypted; give the password")?;
            if self.salt.is_empty() || !(1..=MOST_ITERATIONS).contains(&self.iterations) {
                return Err("its key derivation is not PBKDF2 with a salt and a sane iteration count".into());
            }
            let key = stretch(password, &self.salt, self.iterations);
            let mac_key = decrypt(&key, &self.sealed_mac_key)?;
            self.keys = Some((key, mac_key));
        }
        self.keys.as_ref().ok_or_else(|| "no keys".to_owned())
    }
}

/// A `KeyPackage` while it is read.
#[derive(Default)]
struct Package {
    fields: Vec<(String, Zeroizing<String>)>,
    sealed: Option<Vec<u8>>,
    mac: Option<Vec<u8>>,
}

pub(super) fn read(
    source: &mut dyn BufRead,
    password: Option<&str>,
    each: &mut Each<'_>,
) -> Result<(), Misfit> {
    let mut reader = quick_xml::Reader::from_reader(source);
    let mut buffer = Zeroizing::new(Vec::with_capacity(4096));
    let mut path: Vec<String> = Vec::new();
    let mut text = Zeroizing::new(String::with_capacity(256));
    let mut transport = Transport::default();
    let (mut package, mut waiting) = (Package::default(), None::<Vec<ReadField>>);
    let mut row = 1;
    let at = |row: u64, column: &str, why: String| Misfit { row, column: Some(column.into()), why };
    loop {
        buffer.clear();
        let event = reader.read_event_into(&mut buffer).map_err(|e| Misfit::new(row, e))?;
        match event {
            Event::Start(start) => {
                let name = String::from_utf8_lossy(start.local_name().as_ref()).into_owned();
                if path.is_empty() && name != "KeyContainer" {
                    return Err(Misfit::new(0, "this is no PSKC key container"));
                }
                if name == "Key" {
                    let id = start.try_get_attribute("Id").map_err(|e| Misfit::new(row, e))?;
                    let id = id.map(|a| String::from_utf8_lossy(&a.value).into_owned()).unwrap_or_default();
                    package.fields.push(("Id".into(), Zeroizing::new(id)));
                }
                path.push(name);
                text.clear();
            }
            Event::Text(part) => text.push_str(&part.decode().map_err(|e| Misfit::new(row, e))?),
            Event::GeneralRef(reference) => {
                let name = reference.decode().map_err(|e| Misfit::new(row, e))?;
                let part = quick_xml::escape::unescape(&format!("&{name};"))
                    .map_err(|e| Misfit::new(row, e))?
                    .into_owned();
                text.push_str(&part);
            }
            Event::End(_) => {
                let name = path.pop().unwrap_or_default();
                let parent = path.last().map_or("", String::as_str);
                let in_key = path.iter().any(|p| p == "KeyPackage");
                let binary = |column: &str| from_base64(&text).map_err(|why| at(row, column, why));
                match (parent, name.as_str()) {
                    ("Salt", "Specified") => transport.salt = binary("Salt")?.to_vec(),
                    (_, "IterationCount") => transport.iterations = text.trim().parse().unwrap_or(0),
                    ("CipherData", "CipherValue") if in_key => {
                        package.sealed = Some(binary("Secret")?.to_vec())
                    }
                    ("CipherData", "CipherValue") => transport.sealed_mac_key = binary("MACKey")?.to_vec(),
                    (_, "ValueMAC") => package.mac = Some(binary("ValueMAC")?.to_vec()),
                    ("Secret", "PlainValue") => {
                        package.fields.push(("Secret".into(), text.trim().to_owned().into()))
                    }
                    ("DeviceInfo", "SerialNo" | "Model" | "DeviceBinding")
                    | ("Key", "FriendlyName" | "UserId") => {
                        package.fields.push((name, text.to_string().into()));
                    }
                    ("KeyContainer", "KeyPackage") => {
                        let package = std::mem::take(&mut package);
                        let fields = finish(package, &mut transport, password)
                            .map_err(|(column, why)| at(row, column, why))?;
                        match waiting.take() {
                            None => waiting = Some(fields),
                            Some(mut both) => {
                                both.extend(fields);
                                each(row, both)?;
                                row += 1;
                            }
                        }
                    }
                    _ => {}
                }
                text.clear();
            }
            Event::DocType(_) => return Err(Misfit::new(0, "a key container has no document type")),
            Event::Eof if path.is_empty() && waiting.is_none() => return Ok(()),
            Event::Eof => return Err(Misfit::new(row, "the file ends in the middle")),
            _ => {}
        }
    }
}

/// The fields of a whole package, its secret opened.
fn finish(
    package: Package,
    transport: &mut Transport,
    password: Option<&str>,
) -> Result<Vec<ReadField>, (&'static str, String)> {
    let mut fields = package.fields;
    if let Some(sealed) = package.sealed {
        let (key, mac_key) = transport.open(password).map_err(|why| ("EncryptionKey", why))?;
        let mac = package.mac.ok_or(("ValueMAC", "it is missing".to_owned()))?;
        if !crypto::tags_equal(&mac, &crypto::hmac(mac_key, &[&sealed])) {
            return Err(("ValueMAC", "the value was altered, or the MAC key is another".into()));
        }
        let secret = decrypt(key, &sealed).map_err(|why| ("Secret", why))?;
        fields.push(("Secret".into(), base64(&secret)));
    }
    let name = fields.iter().find(|(name, _)| name == "FriendlyName").map(|(_, value)| value.as_str());
    let prefix = match name {
        Some("agent key") => "agent",
        Some("cloud key") => "cloud",
        _ => return Err(("FriendlyName", "it is neither `agent key` nor `cloud key`".into())),
    };
    Ok(fields
        .into_iter()
        .map(|(name, value)| ReadField { path: format!("{prefix}.{name}"), value, bare: false })
        .collect())
}

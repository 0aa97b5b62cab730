//! How values on the command line are read.

use std::net::{SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use semper::runtime::{Level, Listen, OutputPolicy, StartKey};

/// A place in the journal, or a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The place of a record.
    Sequence(u64),
    /// Nanoseconds since 1970.
    Time(u64),
}

/// The interval of checkpoints; `None` is "only when asked".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Interval(pub Option<Duration>);

/// For which processors a program is; none: for those like this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cpu(pub Option<Level>);

/// A file to import.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileArg {
    /// Where it is.
    pub host: PathBuf,
    /// What it is called in the store.
    pub guest: String,
}

/// The addresses that a host and a port stand for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses(pub Vec<SocketAddrV4>);

/// The shortest interval: below it the checkpoints would be all that the machine does.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

pub fn parse_cpu(text: &str) -> Result<Cpu, String> {
    match text {
        "host" => Ok(Cpu(None)),
        level => level.parse().map(|level| Cpu(Some(level))).map_err(|()| {
            format!("{level} is no level of processors; there are x86-64-v2 (also: baseline), x86-64-v3, and host")
        }),
    }
}

pub fn parse_interval(text: &str) -> Result<Interval, String> {
    let interval = parse_time(text)?;
    match interval {
        Duration::ZERO => Ok(Interval(None)),
        short if short < SHORTEST_INTERVAL => Err("the shortest interval is 10ms; 0 means: only when asked".to_owned()),
        other => Ok(Interval(Some(other))),
    }
}

/// When output is shown, by one device or by all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Output {
    /// None: all.
    pub device: Option<Device>,
    pub when: OutputPolicy,
}

/// By what output leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Device {
    /// Standard output and standard error.
    Console,
    /// Connections.
    Network,
}

/// `held`, `console=immediate`.
pub fn parse_output(text: &str) -> Result<Output, String> {
    let (device, when) = match text.split_once('=') {
        None => (None, text),
        Some(("console", when)) => (Some(Device::Console), when),
        Some(("network", when)) => (Some(Device::Network), when),
        Some((device, _)) => return Err(format!("`{device}` is no device; there are `console` and `network`")),
    };
    let when = match when {
        "held" => OutputPolicy::Held,
        "immediate" => OutputPolicy::Immediate,
        "journaled" => OutputPolicy::Journaled,
        _ => return Err("output is `held`, `immediate` or `journaled`".to_owned()),
    };
    Ok(Output { device, when })
}

pub fn parse_time(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; write for example 1s, 250ms or 5min"))
}

/// Reads `64G`, `256M`, `4k`, `123`: binary units, as memory and files are measured.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size; write for example 64G, 256M or 4096");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("`{text}` is larger than any store can be"))
}

pub fn parse_moment(text: &str) -> Result<Moment, String> {
    if let Ok(sequence) = text.parse() {
        return Ok(Moment::Sequence(sequence));
    }
    let time = humantime::parse_rfc3339_weak(text)
        .map_err(|_| format!("`{text}` is neither a place nor a time; write for example 17 or 2026-01-31T12:00:00Z"))?;
    let since =
        time.duration_since(std::time::UNIX_EPOCH).map_err(|_| "there was no journal before 1970".to_owned())?;
    Ok(Moment::Time(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)))
}

pub fn parse_file(text: &str) -> Result<FileArg, String> {
    let (host, guest) = text.rsplit_once(':').unwrap_or((text, text));
    if host.is_empty() || guest.is_empty() {
        return Err("write HOST or HOST:GUEST, both not empty".to_owned());
    }
    Ok(FileArg { host: host.into(), guest: guest.to_owned() })
}

pub fn parse_key(text: &str) -> Result<StartKey, String> {
    let (slot, domain) = text.split_once('=').ok_or("write SLOT=DOMAIN or SLOT=DOMAIN:BADGE")?;
    let slot = slot.parse().map_err(|_| format!("`{slot}` is no slot; a domain has slots 0 to 15"))?;
    let badged = domain.rsplit_once(':').and_then(|(domain, badge)| Some((domain, badge.parse().ok()?)));
    let (domain, badge) = badged.unwrap_or((domain, 0));
    if domain.is_empty() {
        return Err("the domain is missing; write SLOT=DOMAIN".to_owned());
    }
    Ok(StartKey { slot, domain: domain.to_owned(), badge })
}

pub fn parse_listen(text: &str) -> Result<Listen, String> {
    let (address, port) = text.split_once('=').map_or((text, None), |(address, port)| (address, Some(port)));
    let address: SocketAddrV4 = address
        .parse()
        .map_err(|_| format!("`{address}` is no IPv4 address with a port; write for example 127.0.0.1:8080"))?;
    let port = match port {
        None => address.port(),
        Some(port) => port.parse().map_err(|_| format!("`{port}` is no port that a program can bind"))?,
    };
    if address.port() == 0 || port == 0 {
        return Err("port 0 is none".to_owned());
    }
    Ok(Listen { address, port })
}

pub fn parse_connect(text: &str) -> Result<Addresses, String> {
    let (host, port) = text.rsplit_once(':').ok_or("write HOST:PORT")?;
    let port: u16 = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| format!("`{port}` is no port"))?;
    if host.is_empty() {
        return Err("the host is missing; write HOST:PORT".to_owned());
    }
    let found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    let mut addresses: Vec<SocketAddrV4> = Vec::new();
    for address in found {
        if let SocketAddr::V4(address) = address
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err(format!("{host} has no IPv4 address")) } else { Ok(Addresses(addresses)) }
}

pub fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name of the variable is missing".to_owned()),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => match std::env::var(text) {
            Ok(value) => Ok((text.to_owned(), value)),
            Err(_) => Err(format!("`{text}` is not set here; write {text}=VALUE")),
        },
    }
}

pub fn parse_redirect(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("write NAME=FILE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_bounded() {
        assert_eq!(parse_size("64G"), Ok(64 << 30));
        assert_eq!(parse_size("256MiB"), Ok(256 << 20));
        assert_eq!(parse_size("4096"), Ok(4096));
        for bad in ["", "G", "-1", "1.5G", "1X", "99999999999999T"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_interval_of_zero_means_only_when_asked() {
        assert_eq!(parse_interval("0"), Ok(Interval(None)));
        assert_eq!(parse_interval("10ms"), Ok(Interval(Some(Duration::from_millis(10)))));
        assert!(parse_interval("9ms").is_err());
        assert!(parse_interval("soon").is_err());
    }

    #[test]
    fn a_key_has_a_slot_a_domain_and_perhaps_a_badge() {
        let key = |slot, domain: &str, badge| StartKey { slot, domain: domain.into(), badge };
        assert_eq!(parse_key("12=13.1"), Ok(key(12, "13.1", 0)));
        assert_eq!(parse_key("10=kv:7"), Ok(key(10, "kv", 7)));
        assert_eq!(parse_key("10=a:b"), Ok(key(10, "a:b", 0)));
        for bad in ["", "12", "x=kv", "256=kv", "12=", "12=:5", "=kv"] {
            assert!(parse_key(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_is_given_by_an_address_and_perhaps_the_programs_own_port() {
        let listen = |address: &str, port| Listen { address: address.parse().unwrap(), port };
        assert_eq!(parse_listen("127.0.0.1:8080"), Ok(listen("127.0.0.1:8080", 8080)));
        assert_eq!(parse_listen("0.0.0.0:80=8080"), Ok(listen("0.0.0.0:80", 8080)));
        for bad in [
            "",
            "8080",
            "127.0.0.1",
            ":80",
            "127.0.0.1:x",
            "127.0.0.1:70000",
            "127.0.0.1:0",
            "1.2.3.4:5=",
            "1.2.3.4:5=0",
        ] {
            assert!(parse_listen(bad).is_err(), "{bad}");
        }
        assert!(parse_listen("[::1]:80").is_err());
    }

    #[test]
    fn an_address_to_connect_to_has_a_host_and_a_port() {
        assert_eq!(parse_connect("127.0.0.1:80"), Ok(Addresses(vec!["127.0.0.1:80".parse().unwrap()])));
        for bad in ["", "127.0.0.1", ":80", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:70000"] {
            assert!(parse_connect(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_place_or_a_time() {
        assert_eq!(parse_moment("17"), Ok(Moment::Sequence(17)));
        assert_eq!(parse_moment("1970-01-01T00:00:01Z"), Ok(Moment::Time(1_000_000_000)));
        assert_eq!(parse_moment("1970-01-01 00:00:01"), Ok(Moment::Time(1_000_000_000)));
        for bad in ["", "now", "-1", "1969-01-01T00:00:01Z"] {
            assert!(parse_moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn files_keep_their_name_unless_another_is_given() {
        let file = |host: &str, guest: &str| FileArg { host: host.into(), guest: guest.into() };
        assert_eq!(parse_file("a/b"), Ok(file("a/b", "a/b")));
        assert_eq!(parse_file("a/b:/etc/x"), Ok(file("a/b", "/etc/x")));
        assert!(parse_file(":x").is_err());
        assert!(parse_file("x:").is_err());
    }
}

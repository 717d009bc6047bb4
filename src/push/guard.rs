//! Where requests to URLs that a person gave may go: https, to addresses of the public internet.
//!
//! The addresses are checked where the connection is made, by the resolver that the client asks, so that a name which
//! resolves differently a moment later changes nothing (server-side request forgery, CWE-918).

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A connection that idles longer is closed, so that its address is looked up again.
const IDLE: Duration = Duration::from_secs(30);

/// The rule, with the hosts that the operator allows whatever they resolve to, also without TLS.
#[derive(Clone, Default)]
pub struct Guard {
    allowed: Arc<[String]>,
}

impl Guard {
    /// These hosts may be private and may do without TLS.
    pub fn allowing(hosts: impl IntoIterator<Item = String>) -> Self {
        Self { allowed: hosts.into_iter().map(|h| h.trim().to_ascii_lowercase()).collect() }
    }

    fn allows(&self, host: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == host)
    }

    /// The URL, if it may be asked.
    ///
    /// # Errors
    /// What it should be.
    pub fn check(&self, url: &str) -> Result<Url, &'static str> {
        let url = Url::parse(url).map_err(|_| "a URL")?;
        let host = url.host_str().ok_or("a URL with a host")?;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if self.allows(bare) && ["http", "https"].contains(&url.scheme()) {
            return Ok(url);
        }
        if url.scheme() != "https" {
            return Err("an https URL");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL without a password");
        }
        // A name goes through the resolver; an address does not, so it is looked at here.
        if bare.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip)) || is_local_name(bare) {
            return Err("a URL on the public internet");
        }
        Ok(url)
    }

    /// A client that connects only to what the rule allows, through no proxy.
    pub fn around(&self, builder: ClientBuilder) -> ClientBuilder {
        builder.no_proxy().pool_idle_timeout(IDLE).dns_resolver(Arc::new(self.clone()))
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?;
            let all = guard.allows(&host.to_ascii_lowercase());
            let good: Vec<SocketAddr> = found.filter(|addr| all || is_public(addr.ip())).collect();
            if good.is_empty() {
                return Err("no public address".into());
            }
            Ok(Box::new(good.into_iter()) as Addrs)
        })
    }
}

/// Names that never leave the machine or the local network.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost"
        || [".localhost", ".local", ".internal", ".home.arpa"].iter().any(|end| host.ends_with(end))
}

/// Whether an address is on the public internet (IANA's special-purpose registries).
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || a == 0
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let s = ip.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match s {
        // NAT64 and 6to4 lead to an IPv4 address.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        // Teredo and other protocol assignments, documentation.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, ..] => false,
        // Global unicast; what is mapped, local or multicast is outside of it.
        _ => s[0] & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_public() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "198.18.0.1",
            "192.0.0.8",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001:db8::1",
            "2001::1",
            "fec0::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["8.8.8.8", "1.1.1.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::808:808"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn a_url_in_disguise_is_seen_through() {
        let guard = Guard::default();
        for bad in [
            "http://example.org/",
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f000001/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:10.0.0.1]/",
            "https://localhost/",
            "https://printer.local/",
            "https://LOCALHOST./",
            "https://user:pass@example.org/",
            "ftp://example.org/",
            "file:///etc/passwd",
            "nonsense",
            "https://169.254.169.254/latest",
        ] {
            assert!(guard.check(bad).is_err(), "{bad}");
        }
        assert!(guard.check("https://example.org:8443/hook?x=1").is_ok());
        let lenient = Guard::allowing(["127.0.0.1".to_owned(), "hooks.internal".to_owned()]);
        assert!(lenient.check("http://127.0.0.1:9000/").is_ok());
        assert!(lenient.check("http://hooks.internal/").is_ok());
        assert!(lenient.check("http://127.0.0.2/").is_err());
    }

    #[tokio::test]
    async fn a_name_that_resolves_to_this_machine_is_refused_when_connecting() {
        let name = |host: &str| -> Name { host.parse().unwrap() };
        assert!(Guard::default().resolve(name("localhost")).await.is_err());
        assert!(Guard::allowing(["localhost".to_owned()]).resolve(name("localhost")).await.is_ok());
    }
}

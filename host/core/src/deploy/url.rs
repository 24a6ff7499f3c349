//! Addresses of deployments: the application's name below a base domain.
//!
//! `https://APP.BASE`, or `https://APP.fly.dev` where no base domain is set, as runtm-shared has it (`urls.py`), but only of
//! names that can be hosts: it built `https://evil.com/.fly.dev` as readily.

use std::fmt;

use super::dns_name::DnsName;
use crate::text::shown;
use crate::{Error, Result};

/// The base where none is set: what the provider itself gives to each application.
pub const DEFAULT_BASE: &str = "fly.dev";

/// The variables that set the base domain, the first that is set counts. The second is runtm-shared's.
pub const BASE_DOMAIN_VARIABLES: [&str; 2] = ["MIDPLANE_BASE_DOMAIN", "RUNTM_BASE_DOMAIN"];

/// The base domain that the environment sets; empty where it sets none. `variable` looks one up.
pub fn base_domain(variable: impl Fn(&str) -> Option<String>) -> String {
    BASE_DOMAIN_VARIABLES.iter().find_map(|name| variable(name)).unwrap_or_default()
}

/// Where an application is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppAddress {
    /// As it was spelled: case and a dot at the end mean nothing to DNS, and stay.
    authority: String,
    host: DnsName,
    port: Option<u16>,
    own_domain: bool,
}

impl AppAddress {
    /// The address of an application: its name as one label below the base domain, which may have a port; an empty base is
    /// [`DEFAULT_BASE`]. Refused is what is no host name (`invalid`, code `dns-name`).
    pub fn new(app: &str, base: &str) -> Result<Self> {
        let own_domain = !base.is_empty();
        let base = if own_domain { base } else { DEFAULT_BASE };
        if app.contains('.') {
            let message = format!("`{}` is not the name of an application: it has a dot", shown(app, 80));
            return Err(
                Error::invalid("dns-name", message).hint("it is one label: letters, digits and `-`, such as `my-app`")
            );
        }
        let (domain, port) = match base.rsplit_once(':') {
            Some((domain, port)) => (domain, Some(parse_port(port).ok_or_else(|| no_port(base))?)),
            None => (base, None),
        };
        let host = DnsName::host(&format!("{app}.{domain}"))?;
        // Not converted but refused: the same text is the provider's name of the application, which is not.
        if !app.is_ascii() {
            let label = host.labels().next().unwrap_or_default();
            let message = format!("`{}` is not the name of an application: it is not plain ASCII", shown(app, 80));
            return Err(
                Error::invalid("dns-name", message).hint(format!("name it `{label}`, which browsers show the same"))
            );
        }
        let domain = if domain.is_ascii() { domain.to_owned() } else { DnsName::host(domain)?.to_string() };
        let port_text = port.map_or_else(String::new, |port| format!(":{port}"));
        Ok(Self { authority: format!("{app}.{domain}{port_text}"), host, port, own_domain })
    }

    /// The address to show and to call.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://{}", self.authority)
    }

    /// Host, and port where there is one, if the application lies below a domain of one's own.
    #[must_use]
    pub fn subdomain(&self) -> Option<&str> {
        self.own_domain.then_some(self.authority.as_str())
    }

    /// The host alone, in the form that DNS and certificates carry.
    #[must_use]
    pub fn host(&self) -> &DnsName {
        &self.host
    }

    /// The port, where it is not that of `https`.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority)
    }
}

fn parse_port(text: &str) -> Option<u16> {
    let plain = text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if plain { text.parse().ok() } else { None }
}

fn no_port(base: &str) -> Error {
    Error::invalid(
        "dns-name",
        format!("the base domain `{}` does not end with a port from 1 to 65535", shown(base, 120)),
    )
    .hint("write `example.com` or `example.com:8443`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("my-app", "", "https://my-app.fly.dev", None),
            ("my-app", "example.com", "https://my-app.example.com", Some("my-app.example.com")),
            ("my-app", "Example.COM.", "https://my-app.Example.COM.", Some("my-app.Example.COM.")),
            ("a", "example.com:8443", "https://a.example.com:8443", Some("a.example.com:8443")),
            ("a", "café.example", "https://a.xn--caf-dma.example", Some("a.xn--caf-dma.example")),
        ];
        for (app, base, url, subdomain) in table {
            let address = AppAddress::new(app, base).expect(url);
            assert_eq!((address.url().as_str(), address.subdomain()), (url, subdomain));
            let parsed = url::Url::parse(&address.url()).expect("it is a URL");
            assert_eq!(parsed.host_str().map(|host| host.trim_end_matches('.')), Some(address.host().as_str()));
            assert_eq!(parsed.port(), address.port());
        }
    }

    #[test]
    fn what_is_no_host_is_no_address() {
        let apps =
            ["", ".", "..", "../x", "a b", "a.b", "a/b", "café", "evil.com/", "my_app", "-a", "a@b", "a:1", "a?b"];
        let long = "x".repeat(64);
        for app in apps.into_iter().chain([long.as_str()]) {
            assert_eq!(AppAddress::new(app, "example.com").expect_err(app).code, "dns-name");
        }
        let bases =
            [" ", ".com", "a/path", "a:0", "a:65536", "a:+1", "a:", "a:080", "a@b", "127.0.0.1", "[::1]", "a?b", "a#b"];
        for base in bases {
            assert_eq!(AppAddress::new("a", base).expect_err(base).code, "dns-name");
        }
    }

    #[test]
    fn the_base_comes_from_the_environment() {
        let only = |name: &'static str| move |wanted: &str| (wanted == name).then(|| "x.example".to_owned());
        assert_eq!(base_domain(only("RUNTM_BASE_DOMAIN")), "x.example");
        assert_eq!(base_domain(only("MIDPLANE_BASE_DOMAIN")), "x.example");
        assert_eq!(base_domain(|_| None), "");
    }
}

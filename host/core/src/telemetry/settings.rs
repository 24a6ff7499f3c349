//! Whether telemetry leaves this machine, and where to: from the environment, and local unless it says otherwise.
//!
//! | variable | says |
//! |---|---|
//! | `DO_NOT_TRACK` | anything but empty, `0` and `false`: nothing leaves |
//! | `MIDPLANE_TELEMETRY` | `off` (also `0`, `false`, `no`): nothing leaves |
//! | `OTEL_SDK_DISABLED` | `true`: nothing leaves |
//! | `RUNTM_TELEMETRY_DISABLED` | `1`, `true`, `yes`: nothing leaves |
//! | `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `_ENDPOINT` | where to; to the second `/v1/traces` is added |
//! | `RUNTM_TELEMETRY_ENDPOINT` | where to, if neither of them is set |
//! | `OTEL_EXPORTER_OTLP_TRACES_HEADERS`, `_HEADERS` | what is sent along: `name=value,...`, percent-encoded |
//! | `OTEL_EXPORTER_OTLP_TRACES_TIMEOUT`, `_TIMEOUT` | how long one request may take, in milliseconds |
//! | `OTEL_EXPORTER_OTLP_TRACES_PROTOCOL`, `_PROTOCOL` | `http/protobuf`, which is the only one here |
//! | `OTEL_TRACES_SAMPLER`, `_ARG` | which traces leave: `always_on`, `always_off`, `traceidratio`, each also as `parentbased_` |
//! | `RUNTM_TELEMETRY_SAMPLE_RATE` | the same as a share from 0 to 1, if there is no sampler |
//! | `OTEL_SERVICE_NAME` | under which name |
//! | `RUNTM_TELEMETRY_DEBUG` | `1`, `true`, `yes`: what would leave is logged too |
//!
//! An opt-out holds, whatever else is set. The original sent by default, and knew no `DO_NOT_TRACK`. Variables of OpenTelemetry
//! that are empty are unset, as its specification says; those of the original are read as the original read them.

use std::fmt;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::{Error, Result};

/// How long one request may take, unless said otherwise: the specification's ten seconds.
pub const TIMEOUT_MS: u64 = 10_000;

/// Headers that may be sent along, and bytes of all of them.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Why nothing leaves, though it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOut {
    /// `DO_NOT_TRACK` is set.
    DoNotTrack,
    /// One of the variables of this program, of OpenTelemetry or of the original says so.
    Disabled,
}

impl OptOut {
    /// The word for messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DoNotTrack => "do-not-track",
            Self::Disabled => "disabled",
        }
    }
}

/// What the environment says.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// Set if nothing may leave, whatever the rest says.
    pub opt_out: Option<OptOut>,
    /// What would leave is logged too.
    pub debug: bool,
    /// The URL that traces are sent to, as it was given; unset or empty for nowhere, which is the default.
    pub endpoint: Option<String>,
    /// What is sent along with each request. Values may be secrets: they are not shown.
    pub headers: Vec<(String, String)>,
    /// How long one request may take.
    pub timeout_ms: u64,
    /// The share of traces that leave, 0 to 1.
    pub sample_rate: f64,
    /// Who sends.
    pub service: Service,
    /// What was set and cannot be used. The rest holds; whoever reads the settings logs these.
    pub ignored: Vec<Error>,
}

/// Shows no value of a header.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Settings")
            .field("opt_out", &self.opt_out)
            .field("endpoint", &self.endpoint)
            .field("headers", &headers)
            .field("timeout_ms", &self.timeout_ms)
            .field("sample_rate", &self.sample_rate)
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Nothing leaves: what holds where there is no environment to ask.
    #[must_use]
    pub fn local(service: Service) -> Self {
        Self {
            opt_out: None,
            debug: false,
            endpoint: None,
            headers: Vec::new(),
            timeout_ms: TIMEOUT_MS,
            sample_rate: 1.0,
            service,
            ignored: Vec::new(),
        }
    }

    /// What the environment says; `env` gives the value of a variable, `service` who sends unless a variable renames it.
    /// Never fails: what cannot be used is in [`Settings::ignored`].
    #[must_use]
    pub fn from_env(env: impl Fn(&str) -> Option<String>, service: Service) -> Self {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let otlp = |name: &str| {
            set(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}")).or_else(|| set(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        let is_yes = |name: &str| set(name).is_some_and(|value| one_of(&value, &["1", "true", "yes"]));
        let mut settings = Self::local(service);
        settings.opt_out = opt_out(&set, is_yes("RUNTM_TELEMETRY_DISABLED"));
        settings.debug = is_yes("RUNTM_TELEMETRY_DEBUG");
        if let Some(name) = set("OTEL_SERVICE_NAME") {
            settings.service.name = name;
        }
        settings.endpoint = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or_else(|| {
                set("OTEL_EXPORTER_OTLP_ENDPOINT").map(|base| format!("{}/v1/traces", base.trim_end_matches('/')))
            })
            .or_else(|| env("RUNTM_TELEMETRY_ENDPOINT"));
        settings.headers = settings.take("OTEL_EXPORTER_OTLP_HEADERS", otlp("HEADERS"), headers).unwrap_or_default();
        settings.timeout_ms = settings
            .take("OTEL_EXPORTER_OTLP_TIMEOUT", otlp("TIMEOUT"), |text| {
                text.trim().parse().ok().filter(|ms| *ms > 0).ok_or("it is not a number of milliseconds")
            })
            .unwrap_or(TIMEOUT_MS);
        if let Some(protocol) = otlp("PROTOCOL").filter(|protocol| protocol != "http/protobuf") {
            let shown = crate::text::shown(&protocol, 40);
            settings.ignored.push(Error::invalid(
                "telemetry-protocol",
                format!("`{shown}` is not spoken here, only `http/protobuf`"),
            ));
        }
        let arg = set("OTEL_TRACES_SAMPLER_ARG");
        let sampler =
            settings.take("OTEL_TRACES_SAMPLER", set("OTEL_TRACES_SAMPLER"), |name| sampler(name, arg.as_deref()));
        let share = settings.take("RUNTM_TELEMETRY_SAMPLE_RATE", set("RUNTM_TELEMETRY_SAMPLE_RATE"), share);
        settings.sample_rate = sampler.or(share).unwrap_or(1.0);
        if let Err(error) = settings.url() {
            settings.ignored.push(error);
        }
        settings
    }

    /// Whether nothing was opted out of. Still nothing leaves without an endpoint.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.opt_out.is_none()
    }

    /// Where traces are sent to; none if nothing leaves.
    ///
    /// Errors: `invalid` `telemetry-endpoint` if it is not an `http` or `https` URL with a host and without a user name.
    pub fn url(&self) -> Result<Option<Url>> {
        let Some(endpoint) = self.endpoint.as_deref().filter(|endpoint| !endpoint.is_empty() && self.is_enabled())
        else {
            return Ok(None);
        };
        // The URL itself is not repeated: it may hold a token.
        let bad = |why: &str| {
            Error::invalid("telemetry-endpoint", format!("the endpoint for telemetry cannot be used: {why}"))
                .hint("give an `http` or `https` URL, such as http://localhost:4318")
        };
        let url = Url::parse(endpoint).map_err(|error| bad(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("it is not an `http` or `https` URL"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad("it has a user name; credentials go into `OTEL_EXPORTER_OTLP_HEADERS`"));
        }
        Ok(Some(url))
    }

    /// Reads a variable; one that cannot be read is noted. Its value is not, since it may be a secret.
    fn take<T>(
        &mut self,
        name: &str,
        value: Option<String>,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Option<T> {
        match read(&value?) {
            Ok(read) => Some(read),
            Err(why) => {
                self.ignored.push(Error::invalid("telemetry-value", format!("`{name}` is ignored: {why}")));
                None
            }
        }
    }
}

fn opt_out(set: &impl Fn(&str) -> Option<String>, disabled: bool) -> Option<OptOut> {
    if set("DO_NOT_TRACK").is_some_and(|value| !one_of(value.trim(), &["", "0", "false"])) {
        return Some(OptOut::DoNotTrack);
    }
    let off = set("MIDPLANE_TELEMETRY").is_some_and(|value| one_of(value.trim(), &["off", "0", "false", "no"]));
    let sdk = set("OTEL_SDK_DISABLED").is_some_and(|value| one_of(value.trim(), &["true"]));
    (off || sdk || disabled).then_some(OptOut::Disabled)
}

/// Whether it is one of some words, in whatever case.
fn one_of(value: &str, words: &[&str]) -> bool {
    words.contains(&value.to_lowercase().as_str())
}

/// `name=value,...`: names and values trimmed, values percent-decoded.
fn headers(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    if text.len() > HEADER_BYTES_MAX {
        return Err("it is too long");
    }
    let mut headers = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a header has no `=`")?;
        let name = name.trim().to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(token) {
            return Err("a header has no name that HTTP knows");
        }
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| "a value is not text")?;
        if value.chars().any(char::is_control) {
            return Err("a value has control characters");
        }
        headers.push((name, value.into_owned()));
    }
    if headers.len() > HEADERS_MAX { Err("it has too many headers") } else { Ok(headers) }
}

fn sampler(name: &str, arg: Option<&str>) -> Result<f64, &'static str> {
    match name.trim().strip_prefix("parentbased_").unwrap_or(name.trim()) {
        "always_on" => Ok(1.0),
        "always_off" => Ok(0.0),
        "traceidratio" => {
            let share =
                arg.map_or(Ok(1.0), |arg| arg.trim().parse().map_err(|_| "its argument is not a share from 0 to 1"))?;
            if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("its argument is not a share from 0 to 1") }
        }
        _ => Err("it is not a sampler that is known here"),
    }
}

/// A share as the original reads it: what Python takes for a float (in ASCII digits), put into 0 to 1; NaN is 1.
fn share(text: &str) -> Result<f64, &'static str> {
    let text = text.trim();
    // Underscores stand between digits, and nowhere else.
    let bytes = text.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    let between = |at: usize| digit(at.checked_sub(1)) && digit(Some(at + 1));
    if bytes.iter().enumerate().any(|(at, b)| *b == b'_' && !between(at)) {
        return Err("it is not a number");
    }
    let share: f64 = text.replace('_', "").parse().map_err(|_| "it is not a number")?;
    Ok(if share.is_nan() { 1.0 } else { share.clamp(0.0, 1.0) + 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(env: &[(&str, &str)]) -> Settings {
        let find = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Settings::from_env(find, Service { name: "midplane".into(), version: "1".into() })
    }

    fn url(env: &[(&str, &str)]) -> Option<String> {
        read(env).url().expect("a good endpoint or none").map(String::from)
    }

    #[test]
    fn local_unless_told() {
        assert_eq!(url(&[]), None);
        assert_eq!(url(&[("RUNTM_TELEMETRY_DEBUG", "1"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "")]), None);
        assert_eq!(read(&[]), Settings::local(Service { name: "midplane".into(), version: "1".into() }));
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318/");
        assert_eq!(url(&[base]).as_deref(), Some("http://localhost:4318/v1/traces"));
        let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c.example/t");
        assert_eq!(url(&[base, exact]).as_deref(), Some("https://c.example/t"));
        let alias = ("RUNTM_TELEMETRY_ENDPOINT", "https://t.example/x");
        assert_eq!(url(&[alias]).as_deref(), Some("https://t.example/x"));
        assert_eq!(url(&[alias, base]).as_deref(), Some("http://localhost:4318/v1/traces"));
    }

    #[test]
    fn an_opt_out_holds() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");
        let cases = [
            ("DO_NOT_TRACK", "1", Some(OptOut::DoNotTrack)),
            ("DO_NOT_TRACK", "true", Some(OptOut::DoNotTrack)),
            ("DO_NOT_TRACK", "anything", Some(OptOut::DoNotTrack)),
            ("DO_NOT_TRACK", "0", None),
            ("DO_NOT_TRACK", "FALSE", None),
            ("DO_NOT_TRACK", "", None),
            ("MIDPLANE_TELEMETRY", "Off", Some(OptOut::Disabled)),
            ("MIDPLANE_TELEMETRY", "on", None),
            ("OTEL_SDK_DISABLED", "true", Some(OptOut::Disabled)),
            ("OTEL_SDK_DISABLED", "1", None),
            ("RUNTM_TELEMETRY_DISABLED", "YES", Some(OptOut::Disabled)),
            ("RUNTM_TELEMETRY_DISABLED", "on", None),
            ("RUNTM_TELEMETRY_DISABLED", " 1", None),
        ];
        for (name, value, opt_out) in cases {
            let settings = read(&[(name, value), endpoint]);
            assert_eq!(settings.opt_out, opt_out, "{name}={value}");
            assert_eq!(settings.url().expect("a good endpoint").is_some(), opt_out.is_none());
        }
    }

    #[test]
    fn shares() {
        let cases = [
            ("0.5", 0.5),
            ("0", 0.0),
            ("-1", 0.0),
            ("-0.0", 0.0),
            ("2", 1.0),
            ("inf", 1.0),
            ("-Infinity", 0.0),
            ("nan", 1.0),
            (" .5\n", 0.5),
            ("1_0e-2", 0.1),
            ("1e-3", 0.001),
            ("_1", 1.0),
            ("0x1", 1.0),
            ("0,5", 1.0),
            ("", 1.0),
            ("0.5f", 1.0),
        ];
        for (text, share) in cases {
            let settings = read(&[("RUNTM_TELEMETRY_SAMPLE_RATE", text)]);
            assert_eq!((settings.sample_rate, settings.sample_rate.is_sign_positive()), (share, true), "{text}");
            let unread = matches!(text, "_1" | "0x1" | "0,5" | "0.5f");
            assert_eq!(
                settings.ignored.iter().map(|error| error.code.as_ref()).collect::<Vec<_>>(),
                vec!["telemetry-value"; usize::from(unread)]
            );
        }
        let sampled = |name, arg| {
            read(&[
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", arg),
                ("RUNTM_TELEMETRY_SAMPLE_RATE", "0.25"),
            ])
        };
        assert_eq!(sampled("parentbased_traceidratio", "0.5").sample_rate, 0.5);
        assert_eq!(sampled("always_off", "").sample_rate, 0.0);
        assert_eq!(sampled("traceidratio", "7").sample_rate, 0.25);
        assert_eq!(
            sampled("jaeger_remote", "").ignored[0].message,
            "`OTEL_TRACES_SAMPLER` is ignored: it is not a sampler that is known here"
        );
    }

    #[test]
    fn headers_and_what_is_ignored() {
        let settings = read(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20a%2Cb, x-key = 1 ,"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_SERVICE_NAME", "mine"),
        ]);
        assert_eq!(
            settings.headers,
            [("authorization".to_owned(), "Bearer a,b".to_owned()), ("x-key".to_owned(), "1".to_owned())]
        );
        assert_eq!((settings.timeout_ms, settings.service.name.as_str()), (250, "mine"));
        assert_eq!(
            settings.ignored.iter().map(|error| error.code.as_ref()).collect::<Vec<_>>(),
            ["telemetry-protocol"]
        );
        assert!(!format!("{settings:?}").contains("Bearer"));
        for bad in ["a", "=b", "a b=c", "a=%0a", "a=%ff"] {
            assert_eq!(read(&[("OTEL_EXPORTER_OTLP_HEADERS", bad)]).ignored[0].code, "telemetry-value", "{bad}");
        }
        for bad in ["localhost:4318", "ftp://a/", "http://u:p@a/", "https://"] {
            let settings = read(&[("RUNTM_TELEMETRY_ENDPOINT", bad)]);
            assert_eq!(settings.ignored[0].code, "telemetry-endpoint", "{bad}");
            assert!(!settings.ignored[0].message.contains("u:p"));
        }
    }
}

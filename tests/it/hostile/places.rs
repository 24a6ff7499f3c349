//! The test's servers: answers that hurt, and a place where nothing may ever arrive.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};

use crate::script_server::{Request, ScriptServer, Step, answer, chunked};

/// The credential that the host applies: long, and with characters that each encoding writes differently.
pub(crate) const TOKEN: &str = "tk-9/Zq+Wd~4mV>x=Lc8?Rb2Nf6Ys&Hc1";

/// A credential that is never applied.
pub(crate) const OTHER: &str = "ot-5Uy7Tr3Ee9Ww1Qq8Pp0Oo2Ii4Kk6Jj";

/// A server to which requests are granted, one to which none are, and how many held connections were closed.
pub(crate) struct Places {
    pub(crate) granted: ScriptServer,
    pub(crate) forbidden: ScriptServer,
    pub(crate) closed: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) async fn open() -> Self {
        let forbidden = ScriptServer::start(|_, _| answer("200 OK", &[], &["reached"])).await;
        let closed = Arc::new(AtomicUsize::new(0));
        let (away, count) = (forbidden.url(), closed.clone());
        let granted = ScriptServer::start(move |_, request| steps(request, &away, &count)).await;
        Self { granted, forbidden, closed }
    }

    /// The port of the granted server.
    pub(crate) fn port(&self) -> String {
        port(&self.granted.url())
    }
}

/// The port of a URL of a test's server.
pub(crate) fn port(url: &str) -> String {
    url.rsplit(':').next().unwrap_or_default().to_owned()
}

/// Every form in which a value could be looked for, with its name.
pub(crate) fn disguises(value: &str) -> Vec<(&'static str, String)> {
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let percent: String = value
        .bytes()
        .map(|byte| match byte {
            b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect();
    vec![
        ("plain", value.to_owned()),
        ("base64", BASE64_STANDARD.encode(value)),
        ("base64url", BASE64_URL_SAFE_NO_PAD.encode(value)),
        ("hex", hex.clone()),
        ("hex_upper", hex.to_uppercase()),
        ("percent", percent),
    ]
}

fn steps(request: &Request, away: &str, closed: &Arc<AtomicUsize>) -> Vec<Step> {
    let path = request.line.split(' ').nth(1).unwrap_or_default();
    let (head, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let body = |text: &str| answer("200 OK", &[], &[text]);
    let redirect = |to: &str| answer("302 Found", &[("location", to)], &[]);
    // What came, not what this file says: an echo of a credential that was never sent would prove nothing.
    let token = request.header("x-token").first().copied().unwrap_or_default().to_owned();
    match head {
        "ok" => body("ok"),
        "silent" => vec![Step::Hold, Step::Count(closed.clone())],
        "drip" => {
            let mut steps = answer("200 OK", &[], &["x"]);
            steps.pop();
            steps.extend([Step::Hold, Step::Count(closed.clone())]);
            steps
        }
        "endless" => {
            let mut steps = answer("200 OK", &[], &[]);
            steps.pop();
            steps.push(Step::Repeat(chunked(&"x".repeat(64 * 1024))));
            steps
        }
        "headers" => {
            let lines: Vec<String> = request.headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            body(&lines.join("\n"))
        }
        "many_headers" => {
            let many: Vec<(String, String)> = (0..40_000).map(|i| (format!("h{i}"), "v".to_owned())).collect();
            let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            answer("200 OK", &many, &["ok"])
        }
        "long_head" => answer("200 OK", &[("h", &"v".repeat(1024 * 1024))], &["ok"]),
        "split_head" => {
            vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 20\r\n\r\nok".to_vec())]
        }
        "no_http" => vec![Step::Send(b"220 mail.example ESMTP\r\n".to_vec())],
        "short_body" => vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nok".to_vec())],
        "to_forbidden" => redirect(&format!("{away}/secret")),
        "to_metadata" => redirect("http://169.254.169.254/latest/meta-data/"),
        "to_name" => redirect(&format!("http://localhost:{}/ok", port(away))),
        "to_mapped" => redirect(&format!("http://[::ffff:127.0.0.1]:{}/ok", port(away))),
        "to_itself" => redirect("/to_itself"),
        "to_file" => redirect("file:///etc/passwd"),
        "echo" => echo(rest, &token),
        _ => answer("404 Not Found", &[], &[]),
    }
}

/// The credential that came with the request, in a disguise.
fn echo(disguise: &str, token: &str) -> Vec<Step> {
    let pieces = |size: usize| {
        let bytes: Vec<char> = token.chars().collect();
        bytes.chunks(size).map(|piece| piece.iter().collect::<String>()).collect::<Vec<_>>()
    };
    match disguise {
        "header" => answer("200 OK", &[("x-echo", token), ("x-token", token)], &["in the head"]),
        "status_400" => answer("400 Bad Request", &[], &[&format!("bad token {token}")]),
        // Each byte is a chunk of its own.
        "split" => {
            let all = pieces(1);
            answer("200 OK", &[], &all.iter().map(String::as_str).collect::<Vec<_>>())
        }
        "split_base64" => {
            let whole = BASE64_STANDARD.encode(token);
            let (head, tail) = whole.split_at(whole.len() / 2);
            answer("200 OK", &[], &[head, tail])
        }
        "twice" => answer("200 OK", &[], &[&format!("{token}{token}")]),
        "json" => answer(
            "200 OK",
            &[("content-type", "application/json")],
            &[&serde_json::json!({ "authorization": token, "t": token }).to_string()],
        ),
        "all" => {
            let all: Vec<String> =
                disguises(token).into_iter().map(|(name, text)| format!("{name}={text}\n")).collect();
            answer("200 OK", &[], &all.iter().map(String::as_str).collect::<Vec<_>>())
        }
        name => {
            let found = disguises(token).into_iter().find(|(known, _)| *known == name);
            answer(
                "200 OK",
                &[],
                &[&found.map_or_else(|| "no such disguise".to_owned(), |(_, text)| format!("<{text}>"))],
            )
        }
    }
}

//! Access tokens of Google (`scheme = "google-oauth"`): the secret is an account, which the host exchanges for a token
//! that it applies as `authorization: Bearer`.
//!
//! ```text
//!  service account  ── signed JWT ────┐
//!                                     ├─► POST token_uri ─► token, kept until shortly before it expires
//!  authorized user  ── refresh token ─┘
//! ```
//!
//! # Where the exchange goes
//! To the `token_uri` in the secret, which the operator wrote beside the private key; the grant of the secret is the
//! grant of that URL, and no plugin can change it. Everything else holds as for any request: `https` (or a loopback
//! address, for a server of one's own), private addresses only where `address:` is granted, the budget of the run, the
//! deadline of the request that needs the token, and an audit record of its own. A redirect is not followed.
//!
//! # What it never does
//! It shows neither account nor token: its errors name the secret, the endpoint and the word of the error. A token is
//! in no log and, where a server repeats it, hidden in what a guest reads ([`Egress::cover`]). No plugin can ask for one.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt as _, Limited};
use midplane_core::redact::{Redactor, SecretValue};
use midplane_core::{Error, Result, gate};
use midplane_engine::ports::HttpRequest;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::Egress;
use super::request::Checked;
use super::send::SendBody;

/// Where a refresh token is exchanged if the account does not say: the files of `gcloud` leave it out.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// How long a signed request for a token is good for, in seconds: the most that the vendor takes.
const ASSERTION_S: u64 = 3600;
/// How long before its end a token is not used any more: a request may be on its way for a while.
const SPARE_S: u64 = 60;
/// The longest time that a token is kept, whatever its endpoint says.
const KEPT_S_MAX: u64 = 24 * 3600;
/// The largest answer of a token endpoint.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The tokens of a host, shared by all its runs. One exchange at a time for each account and scope; who comes meanwhile
/// waits for it.
#[derive(Default)]
pub(crate) struct AccessTokens(Mutex<HashMap<Key, Arc<Slot>>>);

type Slot = tokio::sync::Mutex<Option<Token>>;
/// The digest of account and scope.
type Key = [u8; 32];

struct Token {
    value: SecretValue,
    until: Instant,
}

impl AccessTokens {
    fn slot(&self, key: Key) -> Arc<Slot> {
        // Nothing panics while it is held, and a map is whole in any case.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(key).or_default())
    }

    /// The server did not take the token: the next request gets another.
    fn forget(&self, key: Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}

/// The tokens as one call of a plugin uses them.
pub(crate) struct TokenUse {
    tokens: Arc<AccessTokens>,
    /// The call's redactor and the tokens that were applied in it.
    redactor: RwLock<Redactor>,
}

impl TokenUse {
    /// For a call whose other secrets are hidden by `redactor`.
    pub(crate) fn new(tokens: &Arc<AccessTokens>, redactor: &Redactor) -> Self {
        Self { tokens: Arc::clone(tokens), redactor: RwLock::new(redactor.clone()) }
    }
}

/// A token that was applied, and what to do when it was not taken.
pub(super) struct Applied {
    key: Key,
}

impl Egress {
    /// What hides the secrets of the call, with all tokens that were applied in it.
    pub(super) fn redactor(&self) -> Redactor {
        self.tokens.redactor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The token of an account, hidden from now on. `name` is that of the secret.
    pub(super) async fn token(&self, name: &str, account: &SecretValue, scope: &str) -> Result<(SecretValue, Applied)> {
        let digest = Sha256::new().chain_update(account.expose()).chain_update([0]).chain_update(scope);
        let key: Key = digest.finalize().into();
        let slot = self.tokens.tokens.slot(key);
        let mut kept = slot.lock().await;
        let value = match &*kept {
            Some(token) if Instant::now() < token.until => token.value.clone(),
            _ => {
                let token = self.exchanged(name, account, scope).await?;
                let value = token.value.clone();
                *kept = Some(token);
                value
            }
        };
        drop(kept);
        self.cover(name, &value)?;
        Ok((value, Applied { key }))
    }

    /// The answer to a request with this token had the status.
    pub(super) fn answered(&self, applied: &Applied, status: u16) {
        if status == 401 {
            self.tokens.tokens.forget(applied.key);
        }
    }

    fn cover(&self, name: &str, token: &SecretValue) -> Result<()> {
        let mut redactor = self.tokens.redactor.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(redactor.bytes(token.expose()), std::borrow::Cow::Borrowed(_)) {
            *redactor = redactor.with(name, token)?;
        }
        Ok(())
    }

    async fn exchanged(&self, name: &str, account: &SecretValue, scope: &str) -> Result<Token> {
        let account = Account::parse(account.expose()).map_err(|why| refused(name, &why))?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let form = account.form(scope, now_s).map_err(|why| refused(name, &why))?;
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let request = HttpRequest {
            method: "POST".to_owned(),
            url: account.token_uri.to_string(),
            headers: vec![
                header("content-type", "application/x-www-form-urlencoded"),
                header("accept", "application/json"),
            ],
            credential: None,
            timeout_ms: None,
        };
        let request = Checked::new(request, &self.call.limits)
            .map_err(|error| refused(name, &format!("its `token_uri` is wrong: {}", error.message)))?;
        let target = &request.target;
        if target.url().scheme() != "https" && !target.ip().is_some_and(|ip| ip.is_loopback()) {
            return Err(refused(name, "its `token_uri` is not `https`"));
        }
        let mut note = self.note(&request);
        let answer = async {
            self.budget.take_request()?;
            let asked = |ip| gate::Request::TokenAddress { ip, target, secret: name };
            let addresses = self.addresses_if(target, &mut note, asked).await?;
            let body = SendBody::Bytes(form.as_bytes().to_vec().into());
            let message = Self::written(&request, target.url(), request.headers.clone(), body)?;
            // No matter if it has left: to ask for a token changes nothing.
            let (answer, connection) =
                self.transmit(target, &addresses, message, &AtomicBool::new(false), &mut note).await?;
            let status = answer.status().as_u16();
            let broken = || Error::unavailable("broken", format!("the answer of `{target}` broke off or is too large"));
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|_| broken())?;
            drop(connection);
            let body = Zeroizing::new(body.to_bytes().to_vec());
            self.budget.take_bytes(body.len() as u64)?;
            taken(name, &target.to_string(), status, &body)
        }
        .await;
        note.end(answer.as_ref().err());
        answer
    }
}

/// An account in one of Google's two forms of a file.
struct Account {
    token_uri: Zeroizing<String>,
    proof: Proof,
}

enum Proof {
    Key { email: String, id: Option<String>, pem: Zeroizing<String> },
    Refresh { client_id: String, client_secret: Zeroizing<String>, token: Zeroizing<String> },
}

impl Account {
    /// The error is the reason, without anything of what is in the account but its type.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let account: Value =
            serde_json::from_slice(bytes).map_err(|_| "it is not the JSON of an account".to_owned())?;
        let field = |name: &str| match account[name].as_str() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("the account in it has no `{name}`")),
        };
        let proof = match account["type"].as_str() {
            Some("service_account") => Proof::Key {
                email: field("client_email")?,
                id: field("private_key_id").ok(),
                pem: Zeroizing::new(field("private_key")?),
            },
            Some("authorized_user") => Proof::Refresh {
                client_id: field("client_id")?,
                client_secret: Zeroizing::new(field("client_secret")?),
                token: Zeroizing::new(field("refresh_token")?),
            },
            _ => return Err("its `type` is neither `service_account` nor `authorized_user`".to_owned()),
        };
        let token_uri = match (&proof, field("token_uri")) {
            (_, Ok(uri)) => uri,
            (Proof::Refresh { .. }, Err(_)) => TOKEN_URI.to_owned(),
            (Proof::Key { .. }, Err(why)) => return Err(why),
        };
        Ok(Self { token_uri: Zeroizing::new(token_uri), proof })
    }

    /// The body of the request for a token. `now_s` is the time since 1970.
    fn form(&self, scope: &str, now_s: u64) -> Result<Zeroizing<String>, String> {
        let mut form = form_urlencoded::Serializer::new(String::new());
        match &self.proof {
            Proof::Key { email, id, pem } => {
                let mut header = json!({ "alg": "RS256", "typ": "JWT" });
                if let Some(id) = id {
                    header["kid"] = json!(id);
                }
                let claims = json!({
                    "iss": email, "scope": scope, "aud": *self.token_uri, "iat": now_s, "exp": now_s + ASSERTION_S,
                });
                let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let signed = format!("{}.{}", part(&header), part(&claims));
                let signature = URL_SAFE_NO_PAD.encode(signature(pem, signed.as_bytes())?);
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.append_pair("assertion", &format!("{signed}.{signature}"));
            }
            Proof::Refresh { client_id, client_secret, token } => {
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("client_id", client_id);
                form.append_pair("client_secret", client_secret);
                form.append_pair("refresh_token", token);
            }
        }
        Ok(Zeroizing::new(form.finish()))
    }
}

/// RS256 (RFC 7518). The error is the reason.
fn signature(pem: &str, message: &[u8]) -> Result<Vec<u8>, String> {
    let unusable = "its `private_key` is not an RSA key in PKCS #8";
    let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable.to_owned())?;
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| unusable.to_owned())?;
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
        .map_err(|_| "its `private_key` cannot sign".to_owned())?;
    Ok(signature)
}

/// The token in an answer of a token endpoint, or what the answer means.
fn taken(name: &str, endpoint: &str, status: u16, body: &[u8]) -> Result<Token> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    if status != 200 {
        // One of the words of RFC 6749. Its description may quote what was sent.
        let word: String = answer["error"].as_str().unwrap_or_default().chars().take(64).collect();
        let word = if !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            format!(" with `{word}`")
        } else {
            String::new()
        };
        let why = format!("`{endpoint}` answered {status}{word}");
        return Err(if status == 429 || status >= 500 {
            Error::unavailable("credential", format!("there is no token for the secret `{name}`: {why}"))
        } else {
            refused(name, &why).hint("see whether the account still exists and its key or refresh token is valid")
        });
    }
    match answer["access_token"].as_str() {
        Some(token) if (8..=16 * 1024).contains(&token.len()) && token.bytes().all(|b| b.is_ascii_graphic()) => {
            let kept_s = answer["expires_in"].as_u64().unwrap_or(0).min(KEPT_S_MAX).saturating_sub(SPARE_S);
            let until = Instant::now() + Duration::from_secs(kept_s);
            Ok(Token { value: SecretValue::new(token), until })
        }
        _ => Err(Error::unavailable(
            "credential",
            format!("there is no token for the secret `{name}`: `{endpoint}` answered 200 without one"),
        )),
    }
}

fn refused(name: &str, why: &str) -> Error {
    Error::denied("credential", format!("the secret `{name}` gives no token: {why}"))
}

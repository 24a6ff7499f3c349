//! Accounts of Google, against a token server that checks what it is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use midplane_core::manifest::Scheme;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use url::form_urlencoded;

use super::harness::*;
use crate::egress::{Http as _, HttpBody};

/// Made for these tests, and good for nothing else.
const PEM: &str = include_str!("rsa.pem");
const TOKEN: &str = "ya29.c0AZ-token_of.the_account";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

fn service(token_uri: &str) -> String {
    json!({
        "type": "service_account", "project_id": "p", "private_key_id": "kid-1", "private_key": PEM,
        "client_email": "robot@p.iam.gserviceaccount.com", "token_uri": token_uri,
    })
    .to_string()
}

fn user(token_uri: &str) -> String {
    json!({
        "type": "authorized_user", "client_id": "me.apps", "client_secret": "hush-hush-hush",
        "refresh_token": "1//refresh-me", "token_uri": token_uri,
    })
    .to_string()
}

/// A gate in front of an API and with an account.
fn setup(api: &Server, account: &str) -> Setup {
    let scheme = Scheme::GoogleOauth { scope: SCOPE.to_owned() };
    Setup::empty()
        .allow(&format!("http://api.test:{}", api.port()), &ALL, Some(rule("vertex", scheme, "ACCOUNT")))
        .value("ACCOUNT", account)
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

fn token(expires_s: u64) -> String {
    let body = json!({"access_token": TOKEN, "expires_in": expires_s, "token_type": "Bearer"}).to_string();
    answer("200 OK", "content-type: application/json\r\n", &body)
}

async fn api() -> Server {
    Server::answering(|head| answer("200 OK", "", header(head, "authorization").unwrap_or("none"))).await
}

/// The claims of a signed request, if the signature is that of the account's key.
fn verified(assertion: &str) -> (Value, Value) {
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(PEM.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap();
    let public: RsaPublicKeyComponents<Vec<u8>> = key.public().into();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    public.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).expect("the signature of the key");
    let (header, claims) = signed.split_once('.').unwrap();
    let part = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    (part(header), part(claims))
}

#[tokio::test]
async fn a_service_account_is_exchanged_once_and_applied_as_bearer() {
    let api = api().await;
    let endpoint = Server::answering(|_| token(3600)).await;
    let uri = format!("http://127.0.0.1:{}/token", endpoint.port());
    let setup = setup(&api, &service(&uri));
    let gate = setup.build();
    for _ in 0..2 {
        // What a guest reads of an echo is not the token.
        let shown = gate.shown("POST", format!("http://api.test:{}/v1", api.port())).await;
        assert_eq!(shown, "200 Bearer [redacted:ACCOUNT]");
    }
    assert!(api.seen().iter().all(|(head, _)| header(head, "authorization") == Some(&format!("Bearer {TOKEN}"))));
    let seen = endpoint.seen();
    assert_eq!(seen.len(), 1, "the token is kept");
    let (head, body) = &seen[0];
    assert!(head.starts_with("POST /token HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(head, "content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(header(head, "authorization"), None);
    let form = form(body);
    assert_eq!(form[0], ("grant_type".into(), "urn:ietf:params:oauth:grant-type:jwt-bearer".into()));
    let (jwt, claims) = verified(&form[1].1);
    assert_eq!(jwt, json!({"alg": "RS256", "typ": "JWT", "kid": "kid-1"}));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    assert_eq!(
        (&claims["iss"], &claims["scope"], &claims["aud"]),
        (&json!("robot@p.iam.gserviceaccount.com"), &json!(SCOPE), &json!(uri))
    );
    // The exchange has an audit record of its own, before that of the request.
    let lines = gate.log.shown(api.port()).join("\n").replace(&endpoint.port().to_string(), "TOKENS");
    assert_eq!(
        lines,
        "http POST http://127.0.0.1:TOKENS/token ok [secret:ACCOUNT address:127.0.0.1]\n\
         http POST http://api.test:PORT/v1 ok [http:http://api.test:PORT secret:ACCOUNT address:127.0.0.1]\n\
         http POST http://api.test:PORT/v1 ok [http:http://api.test:PORT secret:ACCOUNT address:127.0.0.1]"
    );
}

#[tokio::test]
async fn a_refresh_token_is_exchanged() {
    let api = api().await;
    let endpoint = Server::answering(|_| token(3600)).await;
    let gate = setup(&api, &user(&format!("http://127.0.0.1:{}/token", endpoint.port()))).build();
    assert_eq!(gate.shown("GET", format!("http://api.test:{}/", api.port())).await, "200 Bearer [redacted:ACCOUNT]");
    let form = form(&endpoint.seen()[0].1);
    let expected = [
        ("grant_type", "refresh_token"),
        ("client_id", "me.apps"),
        ("client_secret", "hush-hush-hush"),
        ("refresh_token", "1//refresh-me"),
    ];
    assert_eq!(form, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn many_requests_at_once_make_one_exchange_over_all_calls_of_a_host() {
    let api = api().await;
    let endpoint = Server::answering(|_| token(3600)).await;
    let account = service(&format!("http://127.0.0.1:{}/token", endpoint.port()));
    let tokens = Arc::default();
    let mut gates = Vec::new();
    for _ in 0..2 {
        let mut setup = setup(&api, &account);
        setup.tokens = Arc::clone(&tokens);
        gates.push(setup.build());
    }
    let url = format!("http://api.test:{}/", api.port());
    let requests = (0..12).map(|n| gates[n % 2].shown("GET", url.clone()));
    for shown in futures_util::future::join_all(requests).await {
        assert_eq!(shown, "200 Bearer [redacted:ACCOUNT]");
    }
    assert_eq!((endpoint.seen().len(), api.seen().len()), (1, 12));
}

#[tokio::test]
async fn a_token_that_expires_or_is_not_taken_is_replaced() {
    // Expires within the spare time: good for the request that asked for it, and not kept.
    let first = api().await;
    let endpoint = Server::answering(|_| token(30)).await;
    let gate = setup(&first, &service(&format!("http://127.0.0.1:{}/token", endpoint.port()))).build();
    for _ in 0..2 {
        assert!(gate.shown("GET", format!("http://api.test:{}/", first.port())).await.starts_with("200 "));
    }
    assert_eq!(endpoint.seen().len(), 2);

    // Revoked: the answer is the guest's, and the next request has a new token.
    let count = AtomicUsize::new(0);
    let second = Server::answering(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => answer("401 Unauthorized", "", ""),
        _ => answer("200 OK", "", ""),
    })
    .await;
    let endpoint = Server::answering(|_| token(3600)).await;
    let gate = setup(&second, &service(&format!("http://127.0.0.1:{}/token", endpoint.port()))).build();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(gate.shown("POST", format!("http://api.test:{}/", second.port())).await);
    }
    assert_eq!((statuses.join(","), endpoint.seen().len()), ("401 ,200 ,200 ".to_owned(), 2));
}

#[tokio::test]
async fn what_gives_no_token_says_so_without_the_account() {
    let api = api().await;
    let endpoint = Server::answering(|head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let error = |status: &str, word: &str| {
            answer(status, "", &json!({"error": word, "error_description": "1//refresh-me"}).to_string())
        };
        match path {
            "/revoked" => error("400 Bad Request", "invalid_grant"),
            "/odd" => error("401 Unauthorized", "Not <a> word"),
            "/busy" => error("503 Service Unavailable", "backend_error"),
            "/html" => answer("200 OK", "", "<html>sign in</html>"),
            "/moved" => answer("302 Found", "location: /token\r\n", ""),
            "/long" => answer("200 OK", "", &"x".repeat(100 * 1024)),
            _ => token(3600),
        }
    })
    .await;
    let at = |path: &str| user(&format!("http://127.0.0.1:{}{path}", endpoint.port()));
    let mut accounts: Vec<(&str, String)> =
        ["/revoked", "/odd", "/busy", "/html", "/moved", "/long"].map(|path| (path, at(path))).into();
    accounts.extend([
        ("plain http", user("http://token.test/token")),
        ("no url", user("token.test")),
        ("no json", "not json, hush-hush-hush".to_owned()),
        ("other type", json!({"type": "external_account", "client_secret": "hush-hush-hush"}).to_string()),
        ("no field", json!({"type": "authorized_user", "client_id": "me", "client_secret": 7}).to_string()),
        ("no key", service("https://token.test/").replace("PRIVATE KEY", "PUBLIC KEY")),
    ]);
    let mut lines = Vec::new();
    for (name, account) in accounts {
        let gate = setup(&api, &account).build();
        let error = gate.send("POST", format!("http://api.test:{}/", api.port())).await.err().expect("no token");
        let line = error_line(&error).replace(&endpoint.port().to_string(), "PORT");
        assert!(!line.contains("refresh-me") && !line.contains("hush"), "{line}");
        lines.push(format!("{name}\n    {line}"));
    }
    insta::assert_snapshot!(lines.join("\n"));
    assert!(api.seen().is_empty(), "nothing is sent without a token");
}

#[tokio::test]
async fn a_private_address_of_the_endpoint_needs_a_grant() {
    let api = api().await;
    let endpoint = Server::answering(|_| token(3600)).await;
    let mut setup = setup(&api, &service(&format!("http://127.0.0.1:{}/token", endpoint.port())));
    setup = setup.name("api.test", &[&["127.0.0.2"]]);
    setup.grants.retain(|grant| !grant.starts_with("address:"));
    setup.grants.push("address:127.0.0.2".to_owned());
    let error = setup.build().send("GET", format!("http://api.test:{}/", api.port())).await.err().expect("refused");
    assert_eq!((error.kind.as_str(), error.code.as_ref()), ("denied", "address-refused"), "{error:?}");
    assert!(endpoint.seen().is_empty());
}

#[tokio::test]
async fn the_account_itself_is_never_put_into_a_body() {
    let api = api().await;
    let gate = setup(&api, &user("https://token.test/")).build();
    let body = gate.egress.placeholders.text("ACCOUNT");
    let mut request = request("POST", format!("http://api.test:{}/", api.port()));
    request.credential = Some("anonymous".to_owned());
    gate.egress.send(request, HttpBody::Bytes(body.clone().into_bytes())).await.unwrap();
    assert_eq!(api.seen()[0].1, body.into_bytes(), "its placeholder stays text");
}

//! Which field names are of credentials.
//!
//! The rule looks at the name alone: whatever the value is, also a number or null, it is replaced. It is the rule of
//! agent-runtime-kit without its leaks (`cookie`, `bearer`, `jwt`, `passphrase`, `ToKeN`, `api key`) and without its
//! false alarms (`token_count`, `next_page_token`, `secretary`). In doubt a field is hidden: a lost counter is a
//! nuisance, a shown key is an incident.
//!
//! Left visible on purpose: `key` and `id` by themselves, `signature` (code has signatures), `session` and
//! `session_id` (a field of `runtime_started`), `tokens` and every counter made of it.

use std::sync::LazyLock;

use aho_corasick::automaton::Automaton;
use aho_corasick::dfa::DFA;
use aho_corasick::{Anchored, MatchKind};

/// Parts of a name that make it sensitive wherever they stand, also across a separator or a change of case.
const STRONG: &[&str] = &[
    "accesskey",
    "accesstoken", // for the plural: `token` alone is seen without it
    "accountkey",
    "apikey",
    "apitoken",
    "authorisation",
    "authorization",
    "bearer",
    "connectionstring",
    "cookie",
    "credential",
    "encryptionkey",
    "masterkey",
    "passcode",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "refreshtoken",
    "secret",
    "sharedkey",
    "signingkey",
    "sshkey",
];

/// Parts that decide only as a word of their own: `auth`, but not `author`; `pass`, but not `compass`.
const WEAK: &[&str] = &["auth", "csrf", "jwt", "pass", "pwd", "token", "xsrf"];

/// Words in which `secret` means something else.
const HARMLESS: &[&str] = &["secretari", "secretary"];

/// After a weak word: the field describes the credential and does not hold it.
const DESCRIBES: &[&str] = &[
    "budget", "cost", "count", "counts", "details", "enabled", "endpoint", "estimate", "expires", "expiry", "ids",
    "index", "kind", "length", "limit", "method", "mode", "price", "provider", "rate", "required", "scheme", "status",
    "total", "ttl", "type", "uri", "url", "usage", "used", "window",
];

/// Before `token`: a place in a list, a unit of price, a word of a language model.
const NO_CREDENTIAL: &[&str] = &["bos", "continuation", "eos", "first", "next", "pad", "page", "per", "stop", "unk"];

/// Whether the value of a field of this name is to be hidden.
///
/// The name is read without case and separators. It is sensitive if it contains a strong part (`password`, `api-key`);
/// if a weak word stands in it (`auth`, `pwd`, `jwt`, `token`, also numbered) that is not followed by what it only
/// describes (`token_count`, `auth_url`) and, for `token`, not preceded by a harmless use (`next_page_token`); if it
/// ends with `pass` as a word; or if it ends with `token` or `pwd` written without a boundary (`dbpwd`).
#[must_use]
pub fn is_sensitive_key(key: &str) -> bool {
    // Nearly every name has no such part at all, so the common path is one walk without allocation.
    let (mut secrets, mut weak) = (0, false);
    let mut state = PARTS.start;
    for byte in key.bytes().filter(u8::is_ascii_alphanumeric) {
        state = PARTS.automaton.next_state(Anchored::No, state, byte.to_ascii_lowercase());
        if !PARTS.automaton.is_match(state) {
            continue;
        }
        for index in 0..PARTS.automaton.match_len(state) {
            match PARTS.part(PARTS.automaton.match_pattern(state, index).as_usize()) {
                Part::Secret => secrets += 1,
                Part::Strong => return true,
                Part::Weak => weak = true,
                Part::Harmless => secrets -= 1,
            }
        }
    }
    secrets > 0 || weak && has_weak_word(key)
}

/// What a part that was found says.
enum Part {
    Secret,
    Strong,
    Weak,
    Harmless,
}

struct Parts {
    automaton: DFA,
    start: aho_corasick::automaton::StateID,
}

impl Parts {
    fn part(&self, index: usize) -> Part {
        match STRONG.get(index) {
            Some(&"secret") => Part::Secret,
            Some(_) => Part::Strong,
            None if index < STRONG.len() + WEAK.len() => Part::Weak,
            None => Part::Harmless,
        }
    }
}

static PARTS: LazyLock<Parts> = LazyLock::new(|| {
    let automaton = DFA::builder()
        .match_kind(MatchKind::Standard)
        .build(STRONG.iter().chain(WEAK).chain(HARMLESS))
        .expect("some forty short words are far below the bound of 2^31 states");
    let start = automaton.start_state(Anchored::No).expect("the default kind of start is unanchored");
    Parts { automaton, start }
});

fn has_weak_word(key: &str) -> bool {
    let words = words(key);
    let mut token_is_a_word = false;
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).map(String::as_str);
        let before = index.checked_sub(1).and_then(|before| words.get(before)).map(String::as_str);
        let describes = next.is_some_and(|next| DESCRIBES.contains(&next));
        let sensitive = match word.trim_end_matches(|c: char| c.is_ascii_digit()) {
            "auth" | "csrf" | "jwt" | "oauth" | "pwd" | "xsrf" => !describes,
            "pass" => next.is_none(),
            "token" => {
                token_is_a_word = true;
                !describes && !before.is_some_and(|before| NO_CREDENTIAL.contains(&before))
            }
            _ => false,
        };
        if sensitive {
            return true;
        }
    }
    let squashed = words.concat();
    squashed.ends_with("pwd") || !token_is_a_word && squashed.ends_with("token")
}

/// The words of a name in lower case: split at everything that is no ASCII letter or digit, at `aB` and `1B`, and before
/// the last capital of `ABc`.
fn words(key: &str) -> Vec<String> {
    let bytes = key.as_bytes();
    let mut words = Vec::new();
    let mut word = String::new();
    for (index, &byte) in bytes.iter().enumerate() {
        let before = index.checked_sub(1).map_or(b' ', |before| bytes[before]);
        let starts = byte.is_ascii_uppercase()
            && (before.is_ascii_lowercase()
                || before.is_ascii_digit()
                || before.is_ascii_uppercase() && bytes.get(index + 1).is_some_and(u8::is_ascii_lowercase));
        if (starts || !byte.is_ascii_alphanumeric()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if byte.is_ascii_alphanumeric() {
            word.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that agent-runtime-kit 0.5.5 hides, and that stay hidden.
    const HIDDEN_THERE_TOO: &str = "api_key, api-key, x-api-key, X-Api-Key, my_api_keys, authorization, \
        db_password_hash, secret, client_secret, secrets, credential, credentialId, \
        private_key, privateKey, ssh_private_key_path, token, TOKEN, access_token, \
        access-token, accesstoken, refreshToken, token_2, 2token, aws_secret_access_key, \
        GITHUB_TOKEN, ANTHROPIC_AUTH_TOKEN, access/token, tokenValue, x_secret_y, \
        SESSIONTOKEN, nonSecret, undertoken, betoken, passwd, apikey";

    /// Names that it shows, and that are hidden here.
    const LEAKS_THERE: &str = "api key, authorisation, passphrase, pass, cookie, Cookie, set-cookie, session \
        cookies, bearer, jwt, JWT, id_jwt, csrf, xsrfToken, auth, x-auth, proxy-auth, \
        OAuth, oauth2, pwd, dbPwd, dbpwd, privatekey, ToKeN, token2, tokens/bearer, \
        DB_PASS, DBPass, auth_tokens, access_tokens, refreshTokens, AccountKey, \
        SharedAccessKey, signing_key, connectionString, To.Ken, pass-word, API Key, \
        jwtToken, APIKey, secretary_secret";

    /// Names that hold no credential, some of which it hides.
    const VISIBLE: &str = "_, é, key, keys, monkey, id, name, author, authority, authenticated, signature, \
        session, session_id, ssn, compass, bypass, passed, pass_rate, passenger, tokens, \
        max_tokens, maxTokens, input_tokens, output-tokens, cache_read_tokens, \
        cacheCreationTokens, total_tokens, inputtokens, totaltokens, tokenizer, tokenize, \
        token_count, tokenCount, TOKEN_COUNT, token_usage, token_limit, token_type, \
        token_uri, next_page_token, nextPageToken, page_token, next_token, cost_per_token, \
        time_to_first_token_ms, stop_token, auth_method, auth_uri, secretary, secretariat, \
        Secretaries";

    #[test]
    fn names_are_told_apart() {
        let mut wrong: Vec<&str> = Vec::new();
        for (keys, sensitive) in [(HIDDEN_THERE_TOO, true), (LEAKS_THERE, true), (VISIBLE, false)] {
            wrong.extend(keys.split(", ").filter(|key| is_sensitive_key(key) != sensitive));
        }
        assert!(wrong.is_empty(), "told wrongly: {wrong:?}");
    }

    /// The fields of events, by `wit/README.md`: a rule that hid one would break the log.
    #[test]
    fn fields_of_events_are_visible() {
        let fields = "session_id model vendor_version text block id name arguments by status preview size_bytes \
            duration_ms digest path code message retryable finish_reason error usage rounds exit_code reason type \
            attempt wait_ms title allowed change uri kind level vendor input_tokens output_tokens cache_read_tokens \
            cache_creation_tokens reasoning_tokens total_tokens cost_usd run_id seq t_ms data";
        let hidden: Vec<_> = fields.split_whitespace().filter(|field| is_sensitive_key(field)).collect();
        assert!(hidden.is_empty(), "hidden: {hidden:?}");
    }

    proptest::proptest! {
        /// Separators and case do not hide a strong part.
        #[test]
        fn strong_parts_are_found_however_written(
            index in 0..STRONG.len(),
            ups in proptest::collection::vec(proptest::bool::ANY, 24),
            gaps in proptest::collection::vec("[-_. /]{0,1}", 24),
            before in "[a-z]{0,3}",
            after in "([0-9_][a-z]{0,3})?",
        ) {
            let mut key = before;
            for ((c, up), gap) in STRONG[index].chars().zip(ups).zip(gaps) {
                key.push(if up { c.to_ascii_uppercase() } else { c });
                key.push_str(&gap);
            }
            key.push_str(&after);
            // The one exception: what follows makes it the other word.
            let squashed: String = key.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect();
            proptest::prop_assume!(!HARMLESS.iter().any(|word| squashed.contains(word)));
            proptest::prop_assert!(is_sensitive_key(&key), "{}", key);
        }

        /// The answer does not depend on what is no ASCII letter or digit around the words, whatever that is.
        #[test]
        fn any_name_is_answered(key in "\\PC{0,200}") {
            proptest::prop_assert_eq!(is_sensitive_key(&key), is_sensitive_key(&format!("é {key} -")));
        }
    }
}
